"""Rows of the table of defects: encodings, files and archives."""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom.uid as uids
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import UnreadableInput
from ingest_kit import (
    TRUTH,
    equals,
    filled,
    handled,
    refused,
    tags,
    zipped,
)

# ------------------------------------------------------------------------------------------- encodings


def _encoding(name: str, syntax: str | None) -> None:
    def build(tmp: Path) -> Path:
        return bad.write_series(tmp, TRUTH, syntax=syntax)

    build.__name__ = "encoding_" + name.replace(" ", "_").replace(",", "").lower()
    handled(f"encoding: {name}", "decoded, voxel for voxel")(build)


for _name, _syntax in {
    "explicit little endian": None,
    "implicit little endian": uids.ImplicitVRLittleEndian,
    "explicit big endian": uids.ExplicitVRBigEndian,
    "deflated": uids.DeflatedExplicitVRLittleEndian,
    "RLE": uids.RLELossless,
    "JPEG 2000": uids.JPEG2000Lossless,
    "JPEG-LS": uids.JPEGLSLossless,
    "JPEG lossless": uids.JPEGLosslessSV1,
    "JPEG lossless, process 14": uids.JPEGLossless,
    "no preamble and no meta information": "no preamble",
}.items():
    _encoding(_name, _syntax)


@handled("encoding: JPEG-LS near-lossless", "decoded, with a warning", "lossy_compression", check=lambda s: _near(s))
def near_lossless(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    for k in range(bad.SHAPE[0]):
        ds = bad.slice_dataset(TRUTH, k, bits=12)
        ds.compress(uids.JPEGLSNearLossless, jls_error=2, generate_instance_uid=False)
        ds.save_as(tmp / f"{k}.dcm", enforce_file_format=True)
    return tmp


def _near(study: Study) -> None:
    equals(study, TRUTH, tolerance=2.0)


@refused("encoding: video", UnreadableInput, "undecodable")
def video(tmp: Path) -> Path:
    """MPEG-2: a transfer syntax that is longer by two bytes than the one it replaces."""
    bad.write_series(tmp, TRUTH)
    for path in tmp.iterdir():
        path.write_bytes(
            path.read_bytes().replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x18\x001.2.840.10008.1.2.4.100\0")
        )
    return tmp


# ------------------------------------------------------------------------------------------- order and files


@handled("instance numbers reversed, file names shuffled", "sorted by position along the slice normal")
def reversed_numbers(tmp: Path) -> Path:
    order = np.random.default_rng(3).permutation(bad.SHAPE[0])
    return bad.write_series(
        tmp, TRUTH, lambda k, ds: tags(InstanceNumber=bad.SHAPE[0] - k)(k, ds), name=lambda k: f"{order[k]}.dcm"
    )


@handled("no instance numbers", "sorted by position; slices count along the normal")
def no_numbers(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(InstanceNumber=None))


@handled("no file extension, folders in folders", "every file below the path is looked at")
def nested_without_extension(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, name=lambda k: f"ST{k % 3}/SE0/IM{k:04d}")


@handled("zip archive with folders and operating-system files", "read inside the archive, nothing is unpacked to disk")
def zip_archive(tmp: Path) -> Path:
    folder = bad.write_series(tmp / "a", TRUTH)
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "000.dcm", folder / "__MACOSX" / "._000.dcm")
    return zipped(folder, tmp / "scan.zip", "study/series/")


@handled("path of a DICOMDIR", "the folder around it is read")
def dicomdir(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    index = bad.slice_dataset(TRUTH, 0)
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for name in ("PixelData", "Rows", "Columns", "SOPClassUID"):
        delattr(index, name)
    bad.write(tmp / "DICOMDIR", index)
    return tmp / "DICOMDIR"


@handled("text and other files beside the images", "left out and counted")
def other_files(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    (tmp / "readme.dcm").write_text("not an image " * 50)
    (tmp / "empty.dcm").touch()
    (tmp / "Thumbs.db").write_bytes(b"\0" * 600)
    return tmp


@handled("patient name in GB18030, wrong character set named", "names are never decoded into the report")
def foreign_names(tmp: Path) -> Path:
    def edit(_: int, ds: Dataset) -> Dataset:
        ds.SpecificCharacterSet = "ISO 2022 IR 58"
        ds.add_new(0x00100010, "PN", "王^小东".encode("gb18030"))
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@refused("nothing at the path", UnreadableInput, "not_found")
def nothing_there(tmp: Path) -> Path:
    return tmp / "nowhere"


@refused("empty folder", UnreadableInput, "empty_folder")
def empty_folder(tmp: Path) -> Path:
    (tmp / "below").mkdir(parents=True)
    return tmp


@refused("text file named .dcm", UnreadableInput, "not_dicom")
def text_as_dicom(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    (tmp / "scan.dcm").write_text("this is no scan")
    return tmp / "scan.dcm"


@refused("damaged zip archive", UnreadableInput, "zip_damaged")
def damaged_zip(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    path.write_bytes(path.read_bytes()[:-4000])
    return path


@refused("zip archive with a damaged member", UnreadableInput, "zip_damaged")
def damaged_member(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    raw = bytearray(path.read_bytes())
    raw[600:900] = bytes(300)
    path.write_bytes(raw)
    return path


@refused("zip archive with names that leave its folder", UnreadableInput, "unsafe_zip")
def traversal_zip(tmp: Path) -> Path:
    return zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip", "../../")


@refused("encrypted zip archive", UnreadableInput, "zip_encrypted")
def encrypted_zip(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(raw)
    return path


@handled("spaces and Chinese characters in names of folders and files", "read like any other")
def unicode_names(tmp: Path) -> Path:
    return bad.write_series(tmp / "病人 扫描 #1", TRUTH, name="影像 {:03d} é.dcm".format)


@handled("links to folders and files, dead links, a link that leads back", "links are followed, each folder once")
def links(tmp: Path) -> Path:
    real = bad.write_series(tmp / "real", TRUTH)
    given = tmp / "given"
    given.mkdir()
    (tmp / "elsewhere").mkdir()
    for path in sorted(real.iterdir())[:9]:
        path.rename(tmp / "elsewhere" / path.name)
        (given / path.name).symlink_to(tmp / "elsewhere" / path.name)
    (given / "folder").symlink_to(real)
    (real / "back").symlink_to(given)
    (real / "dead").symlink_to(tmp / "nowhere")
    return given


@handled("named pipe among the files", "left out, nothing waits for it")
def pipe_beside(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    os.mkfifo(tmp / "pipe")
    return tmp


@handled("zip archive packed with LZMA", "read inside the archive")
def lzma_zip(tmp: Path) -> Path:
    folder = bad.write_series(tmp / "a", TRUTH)
    with zipfile.ZipFile(tmp / "scan.zip", "w", zipfile.ZIP_LZMA) as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return tmp / "scan.zip"


@refused("path of a named pipe", UnreadableInput, "not_readable")
def pipe(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    os.mkfifo(tmp / "pipe")
    return tmp / "pipe"


@refused("empty file", UnreadableInput, "empty_file")
def empty_file(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    (tmp / "scan.dcm").touch()
    return tmp / "scan.dcm"


@refused("zip archive inside a folder", UnreadableInput, "nested_archive")
def zip_in_folder(tmp: Path) -> Path:
    (tmp / "b").mkdir(parents=True)
    zipped(bad.write_series(tmp / "a", TRUTH), tmp / "b" / "scan.zip")
    return tmp / "b"


@refused("archive of another kind (.tar.gz)", UnreadableInput, "nested_archive")
def tar_archive(tmp: Path) -> Path:
    folder = bad.write_series(tmp / "a", TRUTH)
    with tarfile.open(tmp / "scan.tar.gz", "w:gz") as archive:
        archive.add(folder, "scan")
    return tmp / "scan.tar.gz"


@refused("zip archive packed by an unknown method", UnreadableInput, "zip_unsupported")
def unknown_method_zip(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    raw = bytearray(path.read_bytes())
    deflated, deflate64 = struct.pack("<H", 8), struct.pack("<H", 9)
    for mark, at in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        place = raw.find(mark)
        while place >= 0:
            if raw[place + at : place + at + 2] == deflated:
                raw[place + at : place + at + 2] = deflate64
            place = raw.find(mark, place + 4)
    path.write_bytes(raw)
    return path


def _cut(tmp: Path, lost: int, name: str = "*.dcm", *, syntax: str | None = None) -> Path:
    """The series with the last bytes of some files lost."""
    bad.write_series(tmp, TRUTH, syntax=syntax)
    for path in tmp.glob(name):
        path.write_bytes(path.read_bytes()[:-lost])
    return tmp


@handled("one truncated file", "left out; counts as a missing slice", "missing_slices_filled", check=filled(17))
def truncated_file(tmp: Path) -> Path:
    return _cut(tmp, 1000, "017.dcm")


@handled(
    "one truncated deflated file", "left out; counts as a missing slice", "missing_slices_filled", check=filled(17)
)
def truncated_deflated(tmp: Path) -> Path:
    return _cut(tmp, 300, "017.dcm", syntax=uids.DeflatedExplicitVRLittleEndian)


@handled(
    "one truncated JPEG 2000 file", "left out; counts as a missing slice",
    "undecodable_slices", "missing_slices_filled", check=filled(17),
)  # fmt: skip
def truncated_jpeg2000(tmp: Path) -> Path:
    return _cut(tmp, 300, "017.dcm", syntax=uids.JPEG2000Lossless)


@refused("every file truncated", UnreadableInput, "truncated")
def all_truncated(tmp: Path) -> Path:
    return _cut(tmp, 1000)


@handled(
    "one compressed slice that cannot be decoded", "left out; counts as a missing slice",
    "undecodable_slices", "missing_slices_filled", check=filled(20),
)  # fmt: skip
def damaged_frame(tmp: Path) -> Path:
    return _cut(tmp, 1500, "020.dcm", syntax=uids.JPEGLSLossless)


@refused("no slice can be decoded", UnreadableInput, "undecodable")
def nothing_decodes(tmp: Path) -> Path:
    return _cut(tmp, 1500, syntax=uids.JPEGLSLossless)
