"""A de-identified copy of a folder or of a whole manifest: files, texts, and an account that names nobody.

```
OUT/PATIENT/STUDY/SERIES/INSTANCE.dcm    pseudonyms and keyed UIDs all the way
OUT/PATIENT/NAME.nii.gz                  NIfTI files
OUT/manifest.jsonl                       where the input was a manifest: pseudonyms, scrubbed texts
OUT/deidentified.json                    how many files, what was refused and why, which methods
```

The input is never changed. The key decides every pseudonym: with the same key a patient keeps the name and the date
shift, in another run and another year; without it nobody can tell who was who.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctscribe.data.deidentify.headers import Options, clean_dicom
from ctscribe.data.deidentify.nifti import clean_nifti
from ctscribe.data.deidentify.text import scrub
from ctscribe.data.files import Blob, open_blobs
from ctscribe.data.manifest import ManifestRow, read_manifest
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.errors import InputRefused
from ctscribe.report.codec import to_plain

Show = Callable[[int, int], None]


@dataclass
class Account:
    """What was done. Holds no identifier, so that it may be shown and kept.

    Attributes:
        files: written; refused: code -> files that were left out; warnings: message -> files.
        removed: kind of passage -> how many were taken out of texts.
        methods: codes of what was applied.
    """

    files: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    methods: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain dictionary of JSON types."""
        return {
            "files": self.files,
            "refused": dict(self.refused),
            "warnings": dict(self.warnings),
            "passages_removed": dict(self.removed),
            "methods": list(self.methods),
        }


@dataclass(frozen=True)
class Copier:
    """Writes de-identified copies below one folder.

    Args:
        out: made if needed.
        names: made from the key.
        options: what may stay.
        account: filled while files are written.
    """

    out: Path
    names: Pseudonyms
    options: Options = Options()
    account: Account = field(default_factory=Account)

    def files(self, path: Path, patient: str | None = None) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Copy every file below a path; yields (place below `out`, identifying values that were in it)."""
        with open_blobs(path) as blobs:
            for blob in blobs:
                try:
                    place, content, secrets = self._clean(blob, path, patient)
                except InputRefused as error:
                    self.account.refused[error.code] += 1
                    continue
                write(self.out / place, content)
                self.account.files += 1
                yield place, secrets

    def _clean(self, blob: Blob, root: Path, patient: str | None) -> tuple[str, bytes, tuple[str, ...]]:
        if blob.is_nifti:
            who = self.names.name("patient", patient or str(root.absolute()))
            name = self.names.name("file", f"{patient or root.absolute()}/{blob.name}")
            return f"{who}/{name}.nii.gz", clean_nifti(blob.read()), ()
        cleaned = clean_dicom(blob.read(), self.names, self.options, patient=patient)
        self.account.warnings.update(cleaned.warnings)
        return cleaned.place, cleaned.content, cleaned.secrets

    def text(self, text: str, identifiers: tuple[str, ...]) -> str:
        """A text without identifiers, counted."""
        scrubbed = scrub(text, identifiers)
        self.account.removed.update(scrubbed.found)
        return scrubbed.text


def deidentify(
    root: Path,
    out: Path,
    names: Pseudonyms,
    options: Options | None = None,
    show: Show | None = None,
) -> Account:
    """Copy a folder, an archive, a file, or everything that a manifest lists.

    Args:
        root: DICOM folder or file, zip, NIfTI, or a manifest (``.csv``, ``.jsonl``).
        out: an empty or new folder; the same input and key give the same files.
        names: see `Pseudonyms.from_file`.
        options: what may stay.
        show: called with (done, all).

    Raises:
        InputRefused: nothing there could be used.
        UsageError: the manifest is not right.
    """
    options = options or Options()
    copier = Copier(out, names, options)
    copier.account.methods = options.codes
    if root.suffix.lower() in (".csv", ".jsonl"):
        rows = read_manifest(root).rows
        plains = []
        for number, row in enumerate(rows, 1):
            if (plain := _row(row, copier)) is not None:
                plains.append(plain)
            if show is not None:
                show(number, len(rows))
        lines = [json.dumps(plain, ensure_ascii=False) + "\n" for plain in _without_lost_priors(plains)]
        write(out / "manifest.jsonl", "".join(lines).encode("utf-8"))
    else:
        for number, _ in enumerate(copier.files(root), 1):
            if show is not None:
                show(number, number)
    if not copier.account.files:
        reasons = ", ".join(f"{count} x {code}" for code, count in copier.account.refused.most_common())
        raise InputRefused(
            "no file could be de-identified",
            code="nothing_left",
            expected="CT images as DICOM or NIfTI",
            got=reasons or "no file",
        )
    write(out / "deidentified.json", (json.dumps(copier.account.to_json(), indent=1) + "\n").encode())
    return copier.account


def _row(row: ManifestRow, copier: Copier) -> dict[str, object] | None:
    """A row of the new manifest; None when nothing of its scan could be used."""
    copied = list(copier.files(row.image, row.patient))
    if not copied:
        return None
    places = [place for place, _ in copied]
    secrets = {value for _, values in copied for value in values} | {row.study, row.patient}
    known = tuple(sorted(value for value in secrets if not value.replace(".", "").isdigit() or len(value) > 3))
    names = copier.names
    plain: dict[str, object] = {
        "study": names.name("study", f"{row.patient}/{row.study}"),
        "patient": names.name("patient", row.patient),
        "image": places[0] if len(places) == 1 else os.path.commonpath(places),
        "language": row.language,
    }
    for name in ("findings", "impression", "history"):
        if text := getattr(row, name):
            plain[name] = copier.text(text, known)
    if row.structured is not None:
        plain["structured"] = [{**to_plain(finding), "evidence": []} for finding in row.structured]
    if row.prior is not None:
        plain["prior"] = names.name("study", f"{row.patient}/{row.prior}")
    if row.prior_days is not None:
        plain["prior_days"] = row.prior_days  # dates stay behind: only what lies between two scans is told
    if row.labs:
        plain["labs"] = dict(row.labs)
    for column, labels in (("regions", row.regions), ("lesions", row.lesions)):
        if labels is not None:
            plain[column] = next(copier.files(labels, row.patient))[0]
    if row.split is not None:
        plain["split"] = row.split
    return plain


def _without_lost_priors(rows: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Rows as they are, but for priors of which nothing could be used."""
    there = {row["study"] for row in rows}
    for row in rows:
        lost = () if row.get("prior", row["study"]) in there else ("prior", "prior_days")
        yield {name: value for name, value in row.items() if name not in lost}


def write(path: Path, content: bytes) -> None:
    """A file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(content)
    os.replace(temporary, path)
