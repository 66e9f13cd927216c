"""BERTScore: how close each word is, in a language model's eyes, to the most similar word on the other side.

Zhang et al., ICLR 2020. With contextual embeddings x of the candidate's and y of the reference's word pieces, all of
length one,

    P = mean_x max_y <x, y>        R = mean_y max_x <x, y>        F = 2 P R / (P + R)

the means weighted by inverse document frequency if asked for. Markers around a text (``[CLS]``, ``[SEP]``) can be the
most similar piece but weigh nothing, and a text without words scores 0, as in the authors' program, whose values these
equal. Nothing is rescaled unless a baseline file is given, and a text longer than the model reads is cut, which the
table counts.

The model is a folder on this machine in Hugging Face's format (safetensors); nothing is downloaded. torch is imported
when a model is given, not before.

It lies about negation: most words of "no pleural effusion" and "pleural effusion" agree, so a flipped finding
still scores about 0.89, which many a correct paraphrase does not reach.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctscribe.errors import CheckpointError, UsageError
from ctscribe.evaluation.batches import padded
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, ratio

if TYPE_CHECKING:
    import torch

BATCH = 32


class BertScore(Scorer):
    """Mean BERTScore under a local model.

    Args:
        model: folder of the model and its tokenizer.
        layer: hidden layer the embeddings are taken from, counted from the first (1); None for the last.
        idf: weigh word pieces by how rare they are among the references (needs `fitted`).
        baseline: CSV file with columns LAYER, P, R, F: what unrelated texts score under this model, as the authors
            publish them; rescales to (x - b) / (1 - b).
        device: where torch computes.

    Raises:
        CheckpointError: the folder holds no usable model.
        UsageError: a layer that the model or the baseline file does not have.
    """

    name = "bertscore"
    uses_model = True

    def __init__(
        self,
        model: Path,
        *,
        layer: int | None = None,
        idf: bool = False,
        baseline: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.model, self.device = model, device  # not the weights: a scorer travels to other processes
        network, tokenizer = _loaded(model, device)
        depth = int(network.config.num_hidden_layers)
        self.layer = depth if layer is None else layer
        if not 1 <= self.layer <= depth:
            raise UsageError(f"{model}: layer of BERTScore", expected=f"1 .. {depth}", got=str(layer))
        self.idf = idf
        self.baseline = None if baseline is None else read_baseline(baseline, self.layer)
        self.longest = _longest(network.config, tokenizer)
        self.markers = frozenset(i for i in (tokenizer.cls_token_id, tokenizer.sep_token_id) if i is not None)
        self.weights: Mapping[int, float] | None = None
        self.unseen = 1.0
        how = f"layer {self.layer} of {model.name}{', idf' if idf else ''}{', rescaled' if baseline else ''}"
        self.measures = tuple(
            Measure(name, f"BERTScore {name} under {how}, mean of reports; blind to negation.", low=None)
            for name in ("precision", "recall", "f1")
        )

    def fitted(self, references: Sequence[Record]) -> BertScore:
        """With the document frequencies of these references, when idf is asked for."""
        if self.idf:
            n = len(references)
            parts = (references[start : start + 1000] for start in range(0, n, 1000))
            seen = Counter(piece for part in parts for record in part for piece in set(self._pieces(record.text)[0]))
            self.weights = {piece: float(np.log((n + 1) / (count + 1))) for piece, count in seen.items()}
            self.unseen = float(np.log(n + 1))
        return self

    def _pieces(self, text: str) -> tuple[list[int], bool]:
        """Word pieces with the model's markers, and whether they were cut to what the model reads."""
        _, tokenizer = _loaded(self.model, self.device)
        whole = tokenizer.encode(text.strip(), truncation=True, max_length=self.longest + 1)
        if len(whole) <= self.longest:
            return list(whole), False
        return list(tokenizer.encode(text.strip(), truncation=True, max_length=self.longest)), True

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: precision, recall, F1, one, texts cut.

        Raises:
            UsageError: idf before `fitted`.
        """
        if self.idf and self.weights is None:
            raise UsageError("BERTScore with idf without document frequencies", hint="fitted(references) first")
        blocks = [self._block(pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
        return np.concatenate(blocks) if blocks else np.zeros((0, 5))

    def _block(self, pairs: Sequence[Pair]) -> np.ndarray:
        texts = list(dict.fromkeys(text for pair in pairs for text in (pair.candidate.text, pair.reference.text)))
        known = {texts[i]: embedded for i, embedded in self._embedded(texts)}
        rows = np.zeros((len(pairs), 5))
        for row, pair in zip(rows, pairs, strict=True):
            ours, theirs = known[pair.candidate.text], known[pair.reference.text]
            row[:3] = self._rescaled(_agreement(*ours[:2], *theirs[:2]))
            row[3:] = 1.0, float(ours[2]) + float(theirs[2])
        return rows

    def _rescaled(self, scores: np.ndarray) -> np.ndarray:
        if self.baseline is None:
            return scores
        base = np.array(self.baseline)
        return (scores - base) / (1.0 - base)

    def _embedded(self, texts: Sequence[str]) -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor, bool]]]:
        """Index -> unit embeddings (pieces, width), weights (pieces) that sum to one, whether the text was cut."""
        import torch

        network, tokenizer = _loaded(self.model, self.device)
        pieces, cut = zip(*(self._pieces(text) for text in texts), strict=True)
        for batch, ids, mask in padded(pieces, BATCH, padding=tokenizer.pad_token_id or 0, device=self.device):
            with torch.inference_mode():
                out = network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            states = torch.nn.functional.normalize(out.hidden_states[self.layer].float().cpu(), dim=-1)
            for row, i in enumerate(batch):
                weight = torch.tensor([self._weight(piece) for piece in pieces[i]])
                total = weight.sum()
                yield i, (states[row, : len(pieces[i])], weight / total if total > 0 else weight, cut[i])

    def _weight(self, piece: int) -> float:
        if piece in self.markers:
            return 0.0
        return 1.0 if self.weights is None else self.weights.get(piece, self.unseen)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Means of reports."""
        return {name: ratio(totals[..., i], totals[..., 3]) for i, name in enumerate(("precision", "recall", "f1"))}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """How many texts were longer than the model reads."""
        return [{"reports": int(totals[3]), "texts_cut": int(totals[4]), "longest": self.longest}]


def _agreement(x: torch.Tensor, wx: torch.Tensor, y: torch.Tensor, wy: torch.Tensor) -> np.ndarray:
    """Precision, recall and F1 of unit embeddings x (m, c) against y (n, c) with weights (m) and (n)."""
    if not wx.any() or not wy.any():  # a text without words
        return np.zeros(3)
    alike = x @ y.T
    precision = float((alike.max(dim=1).values * wx).sum())
    recall = float((alike.max(dim=0).values * wy).sum())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return np.array([precision, recall, f1])


def read_baseline(path: Path, layer: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of unrelated texts at one layer.

    Raises:
        UsageError: the file cannot be read or has no such layer.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {int(row["LAYER"]): row for row in csv.DictReader(file)}
        row = rows[layer]
        return float(row["P"]), float(row["R"]), float(row["F"])
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(
            f"{path}: baseline of BERTScore", expected=f"columns LAYER,P,R,F and layer {layer}", got=str(error)
        ) from error


def _longest(config: Any, tokenizer: Any) -> int:
    """Word pieces the model reads, markers included."""
    positions = int(getattr(config, "max_position_embeddings", 10**9))
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # their positions begin after the padding index
        positions -= int(config.pad_token_id) + 1
    return int(min(tokenizer.model_max_length, positions))


@lru_cache(maxsize=2)
def _loaded(folder: Path, device: str) -> tuple[Any, Any]:
    """Model and tokenizer of a local folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: model for BERTScore",
            expected="a folder with config.json, model.safetensors and tokenizer files",
            got="no config.json there",
            hint="copy a model such as roberta-large or bert-base-chinese there; nothing is downloaded",
        )
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        network = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: model for BERTScore",
            expected="weights in safetensors and a tokenizer that fit config.json",
            got=str(error).splitlines()[0],
        ) from error
    return network.eval().to(device), tokenizer
