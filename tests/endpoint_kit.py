"""A server on this machine that speaks OpenAI's interfaces and misbehaves in every way it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """Answers what its script says, the last entry for ever; keeps what it was sent."""

    script: list[Any] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    release: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Any:
        return self.script[min(len(self.bodies), len(self.script)) - 1]


def chat(content: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def responses(content: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": content, "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    made = {"id": "r", "object": "response", "created_at": 0, "model": "m", "status": "completed", "output": [item]}
    return made | {"usage": usage, "parallel_tool_calls": False, "tool_choice": "auto", "tools": []}


@contextmanager
def serving() -> Iterator[Server]:
    """A running server; stopped at the end."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            state.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            wanted = state.next()
            if wanted == "hang":
                state.release.wait(10)
                return
            if wanted == "drop":
                self.connection.close()
                return
            status, extra, text = 200, {}, ""
            if isinstance(wanted, tuple):
                status, extra = wanted
                text = json.dumps({"error": {"message": "no"}})
            elif isinstance(wanted, dict) and "statements" in wanted:
                whole = json.dumps(wanted)
                text = json.dumps(responses(whole) if "responses" in self.path else chat(whole))
            elif isinstance(wanted, list):
                extra, text = {"content-type": "text/event-stream"}, "".join(f"data: {w}\n\n" for w in wanted)
            else:
                text = wanted if isinstance(wanted, str) else json.dumps(wanted)
            data = text.encode()
            self.send_response(status)
            for name, value in ({"content-type": "application/json"} | extra).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/v1"
    yield state
    state.release.set()
    running.shutdown()
    running.server_close()
    thread.join()
