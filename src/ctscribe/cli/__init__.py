"""The command line: ``ctscribe COMMAND``, one short function per command.

Exit codes are a contract: 0 done, 2 wrong use, 3 input refused, 1 anything else (130 when interrupted).
Results go to stdout; progress, logs and errors go to stderr, so that ``--json`` output can be piped.
"""

from __future__ import annotations

from ctscribe.cli.table import app, main

__all__ = ["app", "main"]
