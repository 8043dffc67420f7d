"""The 1,797 digits of scikit-learn, 8 by 8 pixels, as image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PIXELS, DIGITS = load_digits(return_X_y=True)


def write_digits(folder: Path) -> list[str]:
    """Write the digits, in the order of DIGITS, to a new folder. Return their names."""
    folder.mkdir()
    names = [f"{number:04d}.png" for number in range(len(DIGITS))]
    for name, image in zip(names, PIXELS.reshape(-1, 8, 8), strict=True):
        shades = (image * 255 / 16).round().astype(np.uint8)
        Image.fromarray(shades).convert("RGB").save(folder / name)
    return names
