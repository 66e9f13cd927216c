"""Keyed names: the same identifier always gets the same pseudonym, and nobody without the key can make or undo it.

A plain hash of a patient number can be undone by hashing every possible number; HMAC-SHA-256 with a secret key cannot.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ctscribe.errors import UsageError

KEY_BYTES = 32
UID_ROOT = "2.25."
"""Prefix of UIDs made from 128-bit numbers (DICOM PS3.5 B.2)."""


@dataclass(frozen=True)
class Pseudonyms:
    """Names made with one secret.

    Args:
        key: at least 16 secret bytes.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise UsageError("the key of the pseudonyms", expected="at least 16 bytes", got=f"{len(self.key)}")

    @classmethod
    def from_file(cls, path: Path) -> Pseudonyms:
        """The key in a file; a new random one is written, readable by its owner alone, where there is none."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_bytes())
        key = secrets.token_bytes(KEY_BYTES)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
        return cls(key)

    def number(self, what: str, identifier: str) -> int:
        """128 bits that depend on the key, on the kind of identifier and on the identifier."""
        digest = hmac.new(self.key, f"{what}\x1f{identifier}".encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "big")

    def name(self, what: str, identifier: str) -> str:
        """Sixteen letters and digits, different for every `what`."""
        return f"{self.number(what, identifier):032x}"[:16]

    def uid(self, uid: str) -> str:
        """A valid DICOM UID."""
        return f"{UID_ROOT}{self.number('uid', uid)}"
