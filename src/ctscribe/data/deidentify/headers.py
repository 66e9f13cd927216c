"""De-identifying DICOM: an allow-list of attributes (``headers.yaml``), keyed UIDs, a date shift for each patient.

A deny-list misses what it does not know. Here whatever is not listed is gone, and the bytes that are written are
searched for every identifier that was read: a file in which one is found is not written.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.errors import InputRefused, UnreadableInput

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""CT, Enhanced CT, Legacy Converted Enhanced CT Image Storage: pixels of a scanner, not of a screen."""
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
"""Codes of PS3.16 CID 7050 that are written into what was de-identified."""
LONGEST_SHIFT_DAYS = 3650
OLDEST = 89
"""Years of age above which people are so few that the age identifies (HIPAA safe harbour)."""
_SHORTEST = 4
_SHORTEST_IN_PIXELS = 8
_AGE = re.compile(r"(\d{3})([DWMY])")


@dataclass(frozen=True)
class Options:
    """What may stay beyond the basic profile.

    Attributes:
        characteristics: keep sex and age.
        shift_dates: move dates by a shift of each patient's own, so that intervals stay; False empties them.
    """

    characteristics: bool = True
    shift_dates: bool = True

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the methods that were applied."""
        chosen = {"113100": True, "113107": self.shift_dates, "113108": self.characteristics}
        return tuple(code for code, on in chosen.items() if on)


@dataclass(frozen=True)
class Cleaned:
    """One file without identifiers.

    Attributes:
        content: the file.
        place: folder and file name made of pseudonyms.
        patient: pseudonym.
        warnings: what a person should look at; no identifiers.
        secrets: identifying values that were in the file, for scrubbing a report of the same patient. Never write them.
    """

    content: bytes
    place: str
    patient: str
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


def clean_dicom(
    content: bytes, names: Pseudonyms, options: Options | None = None, *, patient: str | None = None
) -> Cleaned:
    """De-identify one DICOM file.

    Args:
        content: the whole file.
        names: makes pseudonyms, UIDs and date shifts.
        options: what may stay.
        patient: identifier that tells patients apart, where the caller knows it better than the file.

    Raises:
        UnreadableInput: ``not_dicom``.
        InputRefused: ``not_ct``, ``burned_in`` (text in the picture), ``identifier_left`` (the check found one).
    """
    options = options or Options()
    source = _read(content)
    warnings = _refuse_pictures_of_people(source)
    who = patient or str(source.get("PatientID", "") or source.get("PatientName", "") or source.StudyInstanceUID)
    cleaner = _Cleaner(names, options, names.name("patient", who), _shift(names, who))
    cleaned = cleaner.dataset(source)
    _say_so(cleaned, options)
    cleaned.file_meta = _meta(source, cleaned)
    place = "/".join(
        (cleaner.pseudonym, cleaned.get("StudyInstanceUID", "study"), cleaned.get("SeriesInstanceUID", "series"))
    )
    written = _bytes(cleaned)
    secrets = tuple(dict.fromkeys(_secrets(source)))
    _check_nothing_left(written, cleaned, secrets)
    file = f"{place}/{cleaned.SOPInstanceUID}.dcm"
    return Cleaned(written, file, cleaner.pseudonym, tuple(warnings), secrets)


def _read(content: bytes) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        if "SOPClassUID" not in dataset or "SOPInstanceUID" not in dataset:
            raise InvalidDicomError("no SOP class")
    except (InvalidDicomError, EOFError, OSError, ValueError, AttributeError, KeyError) as error:
        raise UnreadableInput(
            "a file is not DICOM", code="not_dicom", expected="a DICOM image", got=type(error).__name__
        ) from error
    if not getattr(dataset, "file_meta", None) or "TransferSyntaxUID" not in dataset.file_meta:
        dataset.ensure_file_meta()
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    return dataset


def _refuse_pictures_of_people(dataset: Any) -> list[str]:
    """Text inside the picture cannot be removed from a header: such objects are refused, doubtful ones reported."""
    kind = [str(word).upper() for word in dataset.get("ImageType", [])]
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        raise InputRefused(
            "a picture has text burned into it",
            code="burned_in",
            expected="Burned In Annotation NO or absent",
            got="YES",
            hint="leave it out, or blacken the text in a copy and set the attribute to NO",
        )
    if str(dataset.SOPClassUID) not in CT_CLASSES:
        raise InputRefused(
            "an object is not a CT image",
            code="not_ct",
            expected="CT Image Storage or its enhanced forms",
            got=f"SOP class {dataset.SOPClassUID}",
            hint="secondary captures, dose sheets, reports and presentation states are left out: they show names",
        )
    if "SECONDARY" in kind and str(dataset.get("BurnedInAnnotation", "")).upper() != "NO":
        return ["a derived picture does not say whether text is burned in: look at it"]
    return []


def _shift(names: Pseudonyms, patient: str) -> datetime.timedelta:
    """Days into the past, the same for all studies of a patient, never none."""
    return datetime.timedelta(days=1 + names.number("date shift", patient) % LONGEST_SHIFT_DAYS)


@cache
def rules() -> dict[str, str]:
    """Keyword -> action."""
    table = yaml.safe_load((files(__package__) / "headers.yaml").read_text(encoding="utf-8"))
    return {
        keyword: action
        for action, lines in table.items()
        if action != "identifying"
        for line in lines
        for keyword in line.split()
    }


@cache
def _identifying() -> tuple[str, ...]:
    table = yaml.safe_load((files(__package__) / "headers.yaml").read_text(encoding="utf-8"))
    return tuple(keyword for line in table["identifying"] for keyword in line.split())


@dataclass(frozen=True)
class _Cleaner:
    """Applies the table to data sets and to the items inside them."""

    names: Pseudonyms
    options: Options
    pseudonym: str
    shift: datetime.timedelta

    def dataset(self, source: Any) -> Any:
        from pydicom.dataset import Dataset
        from pydicom.sequence import Sequence as Items

        kept = Dataset()
        for tag in sorted(source.keys()):
            if tag.is_private:
                continue
            element = source[tag]
            action = rules().get(element.keyword)
            if action == "items" and element.VR == "SQ":
                kept.add_new(tag, "SQ", Items([self.dataset(item) for item in element.value or ()]))
            elif action == "keep" and element.VR != "SQ":
                kept.add(element)
            elif action is not None and action not in ("items", "keep"):
                kept.add_new(tag, element.VR, self._changed(action, element))
        return kept

    def _changed(self, action: str, element: Any) -> Any:
        text = "" if element.value is None else str(element.value)
        if action == "uid":
            return self.names.uid(text) if text else ""
        if action == "name":
            return self.pseudonym
        if action == "date":
            return self._date(text) if self.options.shift_dates else ""
        if action == "yes_no":
            return "CONTRAST" if text.strip() else ""
        if action == "sex":
            return text if self.options.characteristics and text in ("M", "F", "O") else ""
        if action == "age":
            return _age(text) if self.options.characteristics else ""
        return ""

    def _date(self, text: str) -> str:
        try:
            day = datetime.datetime.strptime(text[:8], "%Y%m%d").date()
        except ValueError:
            return ""
        return (day - self.shift).strftime("%Y%m%d")


def _age(text: str) -> str:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return ""
    return "090Y" if match[2] == "Y" and int(match[1]) > OLDEST else match[0]


def _say_so(dataset: Any, options: Options) -> None:
    """Write what was done: (0012,0062), (0012,0063), (0012,0064) and (0028,0303)."""
    from pydicom.dataset import Dataset

    from ctscribe import __version__

    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"ctscribe {__version__}: attributes by allow-list"
    codes = []
    for code in options.codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHODS[code]
        codes.append(item)
    dataset.DeidentificationMethodCodeSequence = codes
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if options.shift_dates else "REMOVED"


def _meta(source: Any, cleaned: Any) -> Any:
    """A new file header: the old one names the sender."""
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = cleaned.SOPClassUID
    meta.MediaStorageSOPInstanceUID = cleaned.SOPInstanceUID
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    return meta


def _bytes(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    dataset.preamble = b"\0" * 128
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def identifiers_in(path: Path) -> tuple[str, ...]:
    """Identifying values in the first DICOM file at a path; none where there is no DICOM.

    They are for finding them in a report of the same patient. Never write them.
    """
    from ctscribe.data.files import open_blobs

    with open_blobs(path) as blobs:
        for blob in blobs:
            if not blob.is_nifti:
                try:
                    return tuple(dict.fromkeys(_secrets(_read(blob.read()))))
                except UnreadableInput:
                    continue
    return ()


def _secrets(dataset: Any) -> Iterator[str]:
    """Identifying values, wherever they stand, and the parts of names."""
    for element in dataset.iterall():
        if element.VR == "PN" or element.keyword in _identifying():
            for value in _values(element.value):
                yield value
                if element.VR == "PN":
                    yield from (part for part in re.split(r"[\^= ]+", value) if part)


def _values(value: Any) -> list[str]:
    many = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    return [str(one).strip() for one in many if one is not None and str(one).strip()]


def _check_nothing_left(written: bytes, cleaned: Any, secrets: Sequence[str]) -> None:
    """Search the bytes. In the pixels, where chance makes short words, only for longer ones."""
    pixels = bytes(cleaned.get("PixelData", b"") or b"")
    split = written.rfind(pixels) if pixels else -1
    header = written if split < 0 else written[:split] + b"\0" + written[split + len(pixels) :]
    allowed = {str(e.value) for e in cleaned.iterall() if e.VR != "SQ" and e.keyword != "PixelData"}
    for secret in secrets:
        if secret in allowed and secret.isascii() and len(secret) < _SHORTEST_IN_PIXELS:
            continue  # a kept word such as the modality happens to be equal
        for code in ("utf-8", "gb18030", "utf-16-le"):
            encoded = secret.encode(code, errors="ignore")
            if len(encoded) >= _SHORTEST and encoded in header:
                raise _left()
            if len(encoded) >= _SHORTEST_IN_PIXELS and encoded in pixels:
                raise _left()


def _left() -> InputRefused:
    return InputRefused(
        "an identifier was still in the file after de-identification, so it was not written",
        code="identifier_left",
        expected="no value of an identifying attribute anywhere in the result",
        hint="it also stands in a kept attribute or in the pixel stream; leave this file out",
    )
