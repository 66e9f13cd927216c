"""Writers that run a causal language model in this process: as it is, with adapters, and with a grammar or without.

| | asked | answers |
| --- | --- | --- |
| `LocalWriter` | as endpoints are, and for plain lines once it has failed at that | JSON, or lines |
| `LocalWriter`, grammar | for plain lines | only what the findings support |
| `TunedWriter` | for plain lines | as it was taught |
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctscribe.errors import CheckpointError, CTScribeError, DependencyMissing, EndpointError, UsageError
from ctscribe.impression import grammar, lines
from ctscribe.impression.client import decode
from ctscribe.impression.context import Context
from ctscribe.impression.drafts import question, statements_of
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.result import Statement
from ctscribe.ontology import Language

ADAPTER, TUNING = "adapter_config.json", "tuning.json"


class LocalWriter:
    """A causal language model in a folder.

    Args:
        folder: as `transformers` saves it, with its tokenizer.
        device: a torch device.
        max_tokens: of one answer.
        constrained: only impressions that the findings support can be written, see `grammar`.
        plain: ask for lines at once, without trying JSON.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        max_tokens: int = 600,
        *,
        constrained: bool = False,
        plain: bool = False,
    ) -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(f"no language model in {folder}", expected="a folder with config.json and weights")
        self.folder, self.device, self.max_tokens, self.constrained = folder, device, max_tokens, constrained
        self.name = folder.name
        self._plain = constrained or plain
        self._loaded: Any = None
        self._masks: grammar.Masks | None = None

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """Greedy decoding. What it cannot do is not tried again: after an answer that is no JSON it is asked for lines.

        Raises:
            EndpointError: the text is no draft (code ``bad_reply``).
        """
        if not self._plain:
            try:
                return self._json(known, language, context, problems)
            except EndpointError:
                self._plain = True
        return self._lines(known, language, problems)

    def _json(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem]
    ) -> tuple[Statement, ...]:
        asked = question(known, language, context, problems)
        user = asked.user + "\n\nAnswer with JSON of this schema and nothing else:\n" + json.dumps(asked.schema)
        text = self._answer(self._prompt(asked.system, user), None)
        return self._read(lambda: statements_of(decode(text), len(known.findings)))

    def _lines(self, known: Known, language: Language, problems: Sequence[Problem]) -> tuple[Statement, ...]:
        asked = lines.question(known, language, problems)
        allowed = grammar.grammar(known, language) if self.constrained else None
        text = self._answer(self._prompt(asked.system, asked.user), allowed)
        return self._read(lambda: lines.read(text, known, language))

    def _read(self, read: Any) -> tuple[Statement, ...]:
        try:
            return tuple(read())
        except (CTScribeError, ValueError) as error:
            raise EndpointError(f"{self.name} gave no valid answer", code="bad_reply", got=str(error)[:200]) from error

    def _prompt(self, system: str, user: str) -> Any:
        """Token ids (1, l) of the prompt."""
        _, tokenizer = self._model()
        return prompt_ids(tokenizer, system, user).to(self.device)

    def _answer(self, ids: Any, allowed: str | None) -> str:
        import torch

        model, tokenizer = self._model()
        if allowed is not None:
            if self._masks is None:
                self._masks = grammar.Masks(tokenizer, model.get_output_embeddings().weight.shape[0])
            return str(tokenizer.decode(constrained(model, ids, self._masks.start(allowed)), skip_special_tokens=True))
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_tokens,
                do_sample=False,
                eos_token_id=_ends(model, tokenizer),
                pad_token_id=tokenizer.eos_token_id,
            )
        return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))

    def _model(self) -> Any:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        return load_causal(self.folder, self.device)


class TunedWriter(LocalWriter):
    """A language model with low-rank adapters that were taught to write impressions (`recipes/impression_lora.py`).

    Args:
        folder: of the adapters; names the model they belong to.
        base: where that model lies, if not where it lay when they were taught.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        max_tokens: int = 600,
        *,
        constrained: bool = False,
        base: Path | None = None,
    ) -> None:
        if not (folder / ADAPTER).is_file() or not (folder / TUNING).is_file():
            raise UsageError(
                f"no adapters of an impression writer in {folder}",
                expected=f"a folder with {ADAPTER}, {TUNING} and the adapters' weights",
                hint="train some: ctscribe train impression_lora",
            )
        self.tuning = json.loads((folder / TUNING).read_text(encoding="utf-8"))
        place = base or Path(self.tuning["base"])
        super().__init__(place, device, max_tokens, constrained=constrained)
        self.adapters, self.name = folder, f"{self.tuning['name']} ({place.name})"

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """Greedy decoding of plain lines.

        Raises:
            EndpointError: the text is no draft (code ``bad_reply``).
        """
        return self._lines(known, language, problems)

    def _load(self) -> Any:
        from ctscribe.layers import fingerprint

        try:
            from peft import PeftModel
        except ImportError as error:
            raise DependencyMissing("adapters need the package peft", hint="pip install 'ctscribe[llm]'") from error
        model, tokenizer = load_causal(self.folder, self.device)
        found = fingerprint(model)
        if found != self.tuning["fingerprint"]:
            raise CheckpointError(
                f"{self.adapters}: {self.folder} is not the language model that these adapters were taught beside",
                expected=f"{self.tuning['base']}, fingerprint {self.tuning['fingerprint']}",
                got=f"fingerprint {found}",
            )
        with quietly():
            return PeftModel.from_pretrained(model, self.adapters).eval(), tokenizer


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warning that versions of PEFT and transformers of one month call forth in each other, and without
    the bars by which transformers shows that it reads weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_causal(folder: Path, device: str) -> tuple[Any, Any]:
    """The model in evaluation mode and its tokenizer; nothing is fetched."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quietly():
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def prompt_ids(tokenizer: Any, system: str, user: str) -> Any:
    """Token ids (1, l) of a prompt, in the model's chat template where it has one."""
    if not tokenizer.chat_template:
        return tokenizer(f"{system}\n\n{user}\n\n", return_tensors="pt")["input_ids"]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    made = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return made["input_ids"]


def constrained(model: Any, ids: Any, matcher: grammar.Matcher) -> list[int]:
    """The most probable tokens among those that may come next; those without an alternative cost no step."""
    import torch
    from transformers import DynamicCache

    written: list[int] = []
    remembered = {_cache_word(model): DynamicCache()}
    with torch.inference_mode():
        while not matcher.ended:
            logits = model(input_ids=ids, use_cache=True, **remembered).logits[0, -1].float()
            allowed = torch.from_numpy(matcher.allowed()).to(logits.device)
            token = int(logits.masked_fill(~allowed, -torch.inf).argmax())
            new = [token, *matcher.take(token)]
            written += new
            ids = torch.tensor([new], device=logits.device)
    return written


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the tokenizer's, whether or not the model's own settings name it."""
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return sorted({int(end) for end in (*ends, tokenizer.eos_token_id) if end is not None})


def _cache_word(model: Any) -> str:
    """Under which keyword a model takes its cache; the name changed between versions of transformers."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(inner.forward).parameters else "past_key_values"
