"""Key images of a case, made ready to stand inside a page.

    DIR/CASE/anything.png, DIR/CASE/anything.jpg ...     several images, in the order of their names
    DIR/CASE.png, DIR/CASE_1.png, DIR/CASE-axial.jpg     or beside one another

Images are decoded and written anew, so that no tag of the original file (names, dates, places) reaches a reader.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

from ctscribe.errors import InputRefused, UnreadableInput

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

# Longer sides are reduced to this many pixels: a CT slice has 512.
_LONGEST = 1024


def key_images(folder: Path, cases: Sequence[str]) -> dict[str, list[str]]:
    """The images of each case as data URIs.

    Raises:
        UnreadableInput: no such folder, or an image that cannot be decoded.
        InputRefused: no image for any of the cases.
    """
    if not folder.is_dir():
        raise UnreadableInput(f"--images {folder}", code="not_found", expected="a folder", got="none there")
    found = {case: [_data_uri(path) for path in _files(folder, case)] for case in cases}
    if not any(found.values()):
        raise InputRefused(
            f"--images {folder}: no image belongs to a case",
            code="no_images",
            expected=f"files such as {cases[0]}/1.png or {cases[0]}.png",
            got=f"{sum(path.suffix.lower() in ENDINGS for path in folder.rglob('*'))} images of other names",
        )
    return found


def _files(folder: Path, case: str) -> list[Path]:
    own = re.compile(re.escape(case) + r"(?:[_-][^/]*)?")
    beside = [path for path in folder.iterdir() if path.is_file() and own.fullmatch(path.stem)]
    named = Path(case).name == case and (folder / case).is_dir()  # an id such as "../x" names no folder here
    inside = list((folder / case).iterdir()) if named else []
    return sorted(path for path in (*beside, *inside) if path.suffix.lower() in ENDINGS)


def _data_uri(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            mode = opened.mode
            image = opened.convert("L" if mode in ("L", "1") else "RGB")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UnreadableInput(f"{path}: not an image", code="bad_image", got=str(error)[:80]) from error
    if mode.startswith(("I", "F")):
        raise UnreadableInput(
            f"{path}: no window applied", code="bad_image", expected="8 bits a pixel", got=f"pixels of kind {mode}"
        )
    image.thumbnail((_LONGEST, _LONGEST))
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".webp")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90) if lossy else image.save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{'jpeg' if lossy else 'png'};base64,{text}"
