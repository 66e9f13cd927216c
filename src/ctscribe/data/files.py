"""Which files lie at a path: a folder of any depth, a zip archive or a single file, none of it unpacked to disk."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ctscribe.errors import InputRefused, UnreadableInput

MAX_UNPACKED_BYTES = 32 << 30
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Blob:
    """A file that can be opened again and again, on disk or inside an archive."""

    name: str
    size: int
    path: Path | None = None
    archive: zipfile.ZipFile | None = field(default=None, repr=False)

    def open(self) -> io.BufferedIOBase:
        """Bytes from the beginning; seekable."""
        if self.path is not None:
            return self.path.open("rb")
        return io.BytesIO(self.read())

    def read(self) -> bytes:
        """All bytes."""
        if self.path is not None:
            return self.path.read_bytes()
        if self.archive is None:
            raise ValueError("a Blob lies on disk or in an archive")
        try:
            return self.archive.read(self.name)
        except NotImplementedError as error:
            raise UnreadableInput(
                "the zip archive is packed by a method that cannot be read here",
                code="zip_unsupported",
                expected="the usual methods: deflate, bzip2, lzma or none",
                hint="unpack it first and give the folder",
            ) from error

    @property
    def base(self) -> str:
        """Name without folders."""
        return PurePosixPath(self.name.replace("\\", "/")).name

    @property
    def is_nifti(self) -> bool:
        return self.base.lower().endswith((".nii", ".nii.gz"))


@contextmanager
def open_blobs(path: Path) -> Iterator[list[Blob]]:
    """Every file at ``path``, sorted by name.

    Raises:
        UnreadableInput: nothing there, an empty folder, a damaged or encrypted archive (codes ``not_found``,
            ``empty_folder``, ``empty_file``, ``zip_damaged``, ``zip_encrypted``, ``zip_unsupported``,
            ``zip_too_large``, ``unsafe_zip``, ``not_readable``).
    """
    try:
        if path.is_dir():
            yield _folder(path)
            return
        if not path.exists():
            raise UnreadableInput(
                f"nothing is at {path}",
                code="not_found",
                expected="a DICOM folder, a zip archive, a DICOM file, .nii or .nii.gz",
                hint="check the spelling of the path",
            )
        if not path.is_file():
            raise UnreadableInput(f"{path} is neither a file nor a folder", code="not_readable")
        if path.stat().st_size == 0:
            raise UnreadableInput(
                f"the file {path.name} is empty", code="empty_file", got="0 bytes", hint="copy or download it again"
            )
        with path.open("rb") as file:
            magic = file.read(4)
        if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06") or path.suffix.lower() == ".zip":
            with _archive(path) as blobs:
                yield blobs
        else:
            yield [Blob(path.name, path.stat().st_size, path)]
    except OSError as error:  # rights, a drive that fails, a file that went away
        raise UnreadableInput(
            f"{path} cannot be read",
            code="not_readable",
            got=(error.strerror or type(error).__name__).lower(),
            hint="check the rights of all files in it, and the drive",
        ) from error


def _folder(path: Path) -> list[Blob]:
    blobs = []
    seen: set[str] = set()  # links are followed, each folder once: a link may lead back to where it lies
    for root, folders, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            file = Path(root, name)
            if file.is_file():
                blobs.append(Blob(file.relative_to(path).as_posix(), file.stat().st_size, file))
    if not blobs:
        raise UnreadableInput(
            f"the folder {path} holds no files",
            code="empty_folder",
            expected="a DICOM series or a NIfTI volume",
            hint="give the folder that holds the images; folders below it are searched too",
        )
    return blobs


@contextmanager
def _archive(path: Path) -> Iterator[list[Blob]]:
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_DAMAGE as error:
        raise UnreadableInput(
            f"{path.name} is not a whole zip archive", code="zip_damaged", hint="copy or download it again"
        ) from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _check_entries(path, entries)
        blobs = [Blob(entry.filename, entry.file_size, archive=archive) for entry in entries]
        try:
            yield sorted(blobs, key=lambda blob: blob.name)
        except InputRefused:
            raise
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UnreadableInput(
                f"{path.name} holds a damaged file", code="zip_damaged", hint="copy or download it again"
            ) from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if not entries:
        raise UnreadableInput(f"the archive {path.name} is empty", code="empty_folder")
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
            raise UnreadableInput(
                f"the archive {path.name} holds a name that leaves its folder",
                code="unsafe_zip",
                expected="names below one folder",
                got="an absolute name or one with '..'",
                hint="do not trust this archive; ask for the images again",
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnreadableInput(f"the archive {path.name} holds a link", code="unsafe_zip")
        if entry.flag_bits & 0x1:
            raise UnreadableInput(
                f"the archive {path.name} is encrypted",
                code="zip_encrypted",
                hint="unpack it first and give the folder",
            )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES:
        raise UnreadableInput(
            f"the archive {path.name} unpacks to more than can be read",
            code="zip_too_large",
            expected=f"at most {MAX_UNPACKED_BYTES >> 30} GiB",
            got=f"{unpacked / (1 << 30):.0f} GiB",
        )
