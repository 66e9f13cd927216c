"""Sentence embeddings by a local model, for finding passages by meaning. torch and transformers load on first use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.errors import UsageError

LONGEST = 512
"""Tokens of one text that are read, where the model reads no fewer."""


class Embedder:
    """A text encoder in a folder as `transformers` saves it; one vector of length 1 for each text.

    The vector is the mean over the tokens, or the first token's where the folder says so in sentence-transformers'
    ``1_Pooling/config.json``.

    Args:
        folder: with ``config.json``, weights in safetensors and a tokenizer.
        device: a torch device.
        batch: texts that are read together.

    Raises:
        UsageError: there is no such model, or it cannot be loaded.
    """

    def __init__(self, folder: Path, device: str = "cpu", batch: int = 32) -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"no embedding model in {folder}", expected="a folder with config.json, safetensors and a tokenizer"
            )
        self.folder, self.device, self.batch = folder, device, batch
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, width); equal texts give equal rows whatever stands beside them, up to rounding."""
        import torch

        model, tokenizer = self._load()
        longest = min(LONGEST, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", LONGEST))
        rows = []
        for start in range(0, len(texts), self.batch):
            some = list(texts[start : start + self.batch])
            given = tokenizer(some, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            with torch.inference_mode():
                states = model(**given.to(self.device)).last_hidden_state
            mask = given["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled = states[:, 0] if self._first_token() else (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, int(model.config.hidden_size)), np.float32)

    def unknown(self, texts: Sequence[str]) -> float:
        """Share of the tokens for which the model has no word; near 1 for a script that it cannot read."""
        _, tokenizer = self._load()
        ids = [i for row in tokenizer(list(texts), add_special_tokens=False)["input_ids"] for i in row]
        return sum(i == tokenizer.unk_token_id for i in ids) / max(1, len(ids))

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model = AutoModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
            except (OSError, ValueError, KeyError) as error:
                raise UsageError(
                    f"the embedding model in {self.folder.name} cannot be loaded",
                    expected="a text encoder as transformers saves it",
                    got=str(error).splitlines()[0],
                ) from error
            self._loaded = model.to(self.device).eval(), tokenizer
        return self._loaded

    def _first_token(self) -> bool:
        path = self.folder / "1_Pooling" / "config.json"
        return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_cls_token"))
