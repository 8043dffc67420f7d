"""Letters of the fonts that ship with matplotlib, made as scikit-learn's digits were: counts of ink, 8 by 8.

Those were written on a tablet and scaled to bitmaps of 32 by 32; the ink in each block of 4 by 4 pixels was counted.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SMALL = "abdefghnqrt"
"""Small letters that do not look like their capitals at any size."""

LETTERS = CAPITALS + SMALL
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "BolIta")),
    *("cmr10", "cmb10", "cmti10", "cmmi10", "cmss10"),
)
HELD_OUT_FONTS = ("DejaVuSansMono-Bold", "DejaVuSerif-Italic", "STIXGeneralItalic", "cmtt10")

SIDE = 8
"""Pixels of a side of an image."""

_CANVAS = 64  # pixels of a side on which letters are drawn and bent
_TALL = 40  # pixels of a letter's greater side
_BITMAP = 32  # pixels of a side of which ink is counted


@cache
def draw_letters(fonts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return letters float32 [N, 1, 64, 64] of all fonts, white on black, and their numbers int64 [N] in `LETTERS`."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts/ttf")
    drawn = [_draw(letter, ImageFont.truetype(str(folder / f"{font}.ttf"), 96)) for font in fonts for letter in LETTERS]
    return torch.from_numpy(np.stack(drawn))[:, None].float() / 255, torch.arange(len(LETTERS)).repeat(len(fonts))


def _draw(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Return a letter in the middle of a canvas, with a greater side of `_TALL` pixels."""
    image = Image.new("L", (256, 256))
    ImageDraw.Draw(image).text((64, 64), letter, font=font, fill=255)
    image = image.crop(image.getbbox())
    scale = _TALL / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
    )
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    canvas.paste(image, ((_CANVAS - image.width) // 2, (_CANVAS - image.height) // 2))
    return np.asarray(canvas)


class Pen:
    """Draws letters differently each time, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)

    def choose(self, letters: int, count: int) -> Tensor:
        """Return `count` numbers of letters, int64."""
        return torch.randint(letters, (count,), generator=self._random)

    def draw(self, letters: Tensor) -> Tensor:
        """Return images [B, 1, 8, 8] of letters [B, 1, 64, 64]: 0, 1/16, …, 1 of each pixel is ink."""
        return F.avg_pool2d(self._cut_out(self._thicken(self._bend(letters))), _BITMAP // SIDE)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self._random) * 2 - 1

    def _bend(self, letters: Tensor) -> Tensor:
        """Turn by up to 15°, shear by up to 0.3, stretch by up to 20 %, move parts by a few pixels."""
        angle, shear, width, height = self._uniform(4, len(letters))
        angle, shear, width, height = 0.26 * angle, 0.3 * shear, 1 + 0.2 * width, 1 + 0.2 * height
        cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(len(letters))
        rows = torch.stack([cosine * width, shear - sine * height, zero, sine * width, cosine * height, zero], dim=1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(letters.shape), align_corners=False)
        bends = F.interpolate(0.12 * self._uniform(len(letters), 2, 5, 5), _CANVAS, mode="bicubic", align_corners=True)
        return F.grid_sample(letters, grid + bends.permute(0, 2, 3, 1), align_corners=False)

    def _thicken(self, letters: Tensor) -> Tensor:
        """Make strokes thinner or thicker: blur letters, and keep what is above a random threshold."""
        bell = torch.exp(-0.5 * (torch.arange(-6, 7) / 2.2) ** 2)
        bell = bell / bell.sum()
        blurred = F.conv2d(
            F.conv2d(letters, bell.view(1, 1, 1, 13), padding=(0, 6)), bell.view(1, 1, 13, 1), padding=(6, 0)
        )
        threshold = 0.3 + 0.17 * self._uniform(len(letters), 1, 1, 1)
        return (blurred > threshold * blurred.amax((1, 2, 3), keepdim=True)).float()

    def _cut_out(self, letters: Tensor) -> Tensor:
        """Return bitmaps [B, 1, 32, 32] that letters fill from top to bottom, and less from side to side."""
        (top, bottom), (left, right) = _span(letters.amax((1, 3))), _span(letters.amax((1, 2)))
        x, y, width, height = self._uniform(4, len(letters))
        tall = (bottom - top) * (1 + 0.04 * height)
        wide = torch.maximum((bottom - top) * (1.2 + 0.25 * width), (right - left).float())
        rows = torch.zeros(len(letters), 2, 3)
        rows[:, 0, 0], rows[:, 1, 1] = wide / _CANVAS, tall / _CANVAS
        rows[:, 0, 2] = ((left + right) + 0.1 * x * wide) / _CANVAS - 1
        rows[:, 1, 2] = ((top + bottom) + 0.06 * y * tall) / _CANVAS - 1
        grid = F.affine_grid(rows, [len(letters), 1, _BITMAP, _BITMAP], align_corners=False)
        return (F.grid_sample(letters, grid, align_corners=False) > 0.5).float()


def _span(ink: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place with ink, and the one after the last, of each row of [B, 64]."""
    places = torch.arange(_CANVAS)
    return torch.where(ink > 0, places, _CANVAS).amin(dim=1), torch.where(ink > 0, places, -1).amax(dim=1) + 1
