"""A BERT small enough for tests, with weights that are the same on every machine and with every version of torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

import report_like

WIDTH, LAYERS, POSITIONS = 16, 3, 48


def vocabulary() -> list[str]:
    """Markers, single letters and word endings, and the words of the corpus."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,;:-()<>=/%&~+'\"[]!?")
    words = sorted({w for text in report_like.ENGLISH for w in re.findall(r"[a-z]+", text.lower())})
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]


def filled(module: Any, seed: int = 0) -> Any:
    """The module with weights drawn by numpy, in the order of their names; embeddings large enough to matter."""
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            drawn = rng.standard_normal(tuple(weight.shape)) * (0.05 if name.endswith("bias") else 0.4)
            weight.copy_(torch.from_numpy(drawn + ("LayerNorm.weight" in name)))
    return module.eval()


def config() -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(dict.fromkeys(vocabulary())),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
    )


def save_tokenizer(folder: Path) -> None:
    """Tokenizer files of the tiny vocabulary."""
    from transformers import BertTokenizerFast

    words = dict.fromkeys(vocabulary())
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True)
    tokenizer.model_max_length = POSITIONS
    tokenizer.save_pretrained(folder)


def save(folder: Path) -> Path:
    """Model and tokenizer in Hugging Face's format."""
    from transformers import BertModel

    filled(BertModel(config())).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
