"""A few shapes as SVG: text, boxes, lines, pictures, on a card that can be read on a light and on a dark page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

INK, SOFT, LINE, CARD = "#1f2933", "#52606d", "#cbd2d9", "#fdfdfb"
FINE, MID, COARSE, STRUCTURE, FACTS = "#0f766e", "#b45309", "#6d28d9", "#be185d", "#334e68"
SCALES = {"fine": FINE, "mid": MID, "coarse": COARSE, "structure": STRUCTURE, "findings": FACTS}


class Svg:
    """Shapes on a card; all numbers are pixels from the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 13,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
            f"{escape(words)}</text>"
        )

    def box(
        self, x: float, y: float, w: float, h: float, *, fill: str = "none", stroke: str = "none", width: float = 1,
        round_: float = 0, opacity: float = 1,
    ) -> None:  # fmt: skip
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{round_}" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="{width}" opacity="{opacity:.3g}"/>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], *, stroke: str = SOFT, width: float = 1, opacity: float = 1,
        arrow: bool = False, dash: str = "",
    ) -> None:  # fmt: skip
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        end = ' marker-end="url(#tip)"' if arrow else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:.3g}" '
            f'opacity="{opacity:.3g}"{end}{dashes}/>'
        )

    def dot(self, x: float, y: float, r: float, *, fill: str = INK, stroke: str = CARD) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{fill}" stroke="{stroke}"/>')

    def picture(self, x: float, y: float, w: float, h: float, pixels: np.ndarray, *, sharp: bool = False) -> None:
        """An array (rows, columns) or (rows, columns, 3) of bytes, as PNG; ``sharp`` shows its cells as squares."""
        data = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(data, "PNG", optimize=True)
        rendering = ' style="image-rendering:pixelated"' if sharp else ""
        self.parts.append(
            f'<image x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" preserveAspectRatio="none"{rendering} '
            f'href="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"/>'
        )

    def render(self) -> str:
        """The whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, Noto Sans SC, sans-serif">'
            f"<title>{escape(self.title)}</title>"
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{SOFT}"/></marker></defs>'
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="10" fill="{CARD}" '
            f'stroke="{LINE}"/>'
        )
        return head + "\n".join(self.parts) + "</svg>\n"


def grey(plane: np.ndarray, low: float = -1350.0, high: float = 250.0) -> np.ndarray:
    """Hounsfield units as bytes (rows, columns, 3)."""
    shade = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1) * 255
    return np.repeat(shade[..., None], 3, axis=-1)


def resized(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Numbers (rows, columns) on another grid, smoothly."""
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def blended(under: np.ndarray, colour: str, amount: np.ndarray) -> np.ndarray:
    """A colour laid over a picture, ``amount`` (rows, columns) from 0 to 1."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    share = np.clip(amount, 0, 1)[..., None]
    return under * (1 - share) + rgb * share
