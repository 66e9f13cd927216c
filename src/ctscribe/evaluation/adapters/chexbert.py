"""CheXbert: the 14 CheXpert labels a BERT reads in both reports, and their F1.

Smit et al., EMNLP 2020. The network is written here (a BERT and 14 linear heads on its first token: blank, positive,
negative, uncertain for 13 of them, two classes for "No Finding"), so no further package is needed. A label counts as
positive when it is positive or uncertain. Averages are those of the package f1chexbert (scikit-learn's, where a label
that neither side has scores 0), so values compare with published ones.

The weights are published as a pickle (``chexbert.pth``), which may run anything when it is opened. `convert` rewrites
it once as safetensors; only that is read here. Trained on chest X-ray reports: it knows no emphysema, no nodule size,
no lymph node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.errors import CheckpointError
from ctscribe.evaluation.adapters.base import foreign, need, refuse_other_than_english, score
from ctscribe.evaluation.batches import padded
from ctscribe.evaluation.labels import confusion, label_rows
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Scorer, ratio

LABELS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
_FIVE = [LABELS.index(label) for label in FIVE]

# Classes of a head: 0 blank, 1 positive, 2 negative, 3 uncertain.
_POSITIVE = (1, 3)
LONGEST, BATCH = 512, 16
WEIGHTS = "chexbert.safetensors"
_CONVERT = "python -c \"from ctscribe.evaluation.adapters.chexbert import convert; convert('chexbert.pth', 'FOLDER')\""


class CheXbert(Scorer):
    """F1 of CheXpert's labels under local weights.

    Args:
        path: folder with ``config.json`` and the tokenizer of bert-base-uncased, and ``chexbert.safetensors``.
        device: where torch computes.
    """

    name = "chexbert"
    uses_model = True
    measures = tuple(
        score(f"{average}_f1_{count}", f"{average.capitalize()} F1 of {count} CheXpert labels; trained on chest X-ray.")
        for count in (14, 5)
        for average in ("micro", "macro")
    )

    def __init__(self, path: Path, device: str = "cpu") -> None:
        if (path / "chexbert.pth").exists() and not (path / WEIGHTS).exists():
            raise CheckpointError(
                f"{path}: weights of CheXbert",
                expected=WEIGHTS,
                got="chexbert.pth, a pickle, which can run any code",
                hint=f"convert it once: {_CONVERT}",
            )
        need(
            path,
            ("config.json", WEIGHTS),
            "weights of CheXbert",
            f"bert-base-uncased's config and vocabulary, and {_CONVERT}",
        )
        self.path, self.device = path, device
        with foreign(self.name):
            _network(path, device)

    def positive(self, texts: Sequence[str]) -> np.ndarray:
        """Boolean (texts, 14): which labels each text is positive for, possibly so included."""
        import torch

        network, heads, tokenizer = _network(self.path, self.device)
        found = np.zeros((len(texts), len(LABELS)), dtype=bool)
        pieces = [tokenizer.encode(_one_line(text), truncation=True, max_length=LONGEST) for text in texts]
        for batch, ids, mask in padded(pieces, BATCH, padding=0, device=self.device):
            with torch.inference_mode():
                first = network(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
                classes = torch.stack([head(first).argmax(dim=1) for head in heads], dim=1).cpu().numpy()
            found[batch] = np.isin(classes, _POSITIVE)
        return found

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: TP of each label, then FP of each, then FN of each."""
        refuse_other_than_english(self.name, pairs)
        if not pairs:
            return np.zeros((0, 3 * len(LABELS)))
        texts = list(dict.fromkeys(text for pair in pairs for text in (pair.candidate.text, pair.reference.text)))
        with foreign(self.name):
            known = dict(zip(texts, self.positive(texts), strict=True))
        ours = np.stack([known[pair.candidate.text] for pair in pairs])
        theirs = np.stack([known[pair.reference.text] for pair in pairs])
        return np.concatenate(confusion(theirs, ours)[:3], axis=1)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Micro and macro F1 over all labels and over the five that most papers print."""
        tp, fp, fn = np.split(totals, 3, axis=-1)
        found: dict[str, np.ndarray] = {}
        for count, chosen in ((14, list(range(len(LABELS)))), (5, _FIVE)):
            hit, wrong = tp[..., chosen], (fp + fn)[..., chosen]
            found[f"micro_f1_{count}"] = ratio(2 * hit.sum(-1), 2 * hit.sum(-1) + wrong.sum(-1))
            found[f"macro_f1_{count}"] = np.asarray(np.nan_to_num(ratio(2 * hit, 2 * hit + wrong)).mean(axis=-1))
        return found

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per label."""
        tp, fp, fn = np.split(totals, 3)
        scores = (ratio(tp, tp + fp), ratio(tp, tp + fn), ratio(2 * tp, 2 * tp + fp + fn))
        precision, recall, f1 = map(np.nan_to_num, scores)  # a label that neither side has counts as 0
        return label_rows(LABELS, tp, fp, fn, (precision, recall, f1), in_macro=np.ones(len(LABELS), dtype=bool))


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@lru_cache(maxsize=1)
def _network(path: Path, device: str) -> tuple[Any, list[Any], Any]:
    """BERT, its 14 heads, its tokenizer."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    network = AutoModel.from_config(AutoConfig.from_pretrained(str(path), local_files_only=True))
    sizes = [4] * (len(LABELS) - 1) + [2]
    heads = torch.nn.ModuleList(torch.nn.Linear(network.config.hidden_size, size) for size in sizes)
    whole = torch.nn.ModuleDict({"bert": network, "linear_heads": heads})
    weights = {key: value for key, value in load_file(path / WEIGHTS).items() if not key.endswith("position_ids")}
    expected = {key for key in whole.state_dict() if not key.endswith(("position_ids", "token_type_ids"))}
    if wrong := sorted(expected ^ set(weights)):
        raise CheckpointError(
            f"{path / WEIGHTS}", expected=f"{len(expected)} tensors of BERT and 14 heads", got=f"differs in {wrong[0]}"
        )
    whole.load_state_dict(weights, strict=False)
    return network.eval().to(device), list(heads.eval().to(device)), tokenizer


def convert(pickled: str | Path, folder: str | Path) -> Path:
    """Rewrite the published ``chexbert.pth`` as safetensors, reading tensors only.

    Returns:
        the file written.

    Raises:
        CheckpointError: not such a file.
    """
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(pickled, map_location="cpu", weights_only=True)["model_state_dict"]
    except (OSError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{pickled}", expected="tensors under 'model_state_dict'", got=str(error).splitlines()[0]
        ) from error
    tensors = {key.removeprefix("module."): value.contiguous() for key, value in state.items()}
    target = Path(folder) / WEIGHTS
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    save_file(tensors, unfinished)
    os.replace(unfinished, target)
    return target
