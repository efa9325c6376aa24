"""Draws the sample images, the same bytes each time with one version of Pillow. `python make_images.py [FOLDER]`

Nothing here is a photograph of anybody: each picture is computed from coordinates and a seeded generator.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Picture = NDArray[np.float64]
"""Grey or RGB levels, 0 to 255."""

SIZE = 256
Y, X = np.mgrid[0:SIZE, 0:SIZE] / SIZE


def retina() -> Picture:
    """An orange disc on black with a bright spot and dark vessels leaving it."""
    disc = np.clip((0.46 - np.hypot(X - 0.5, Y - 0.5)) * 40, 0, 1)
    spot = np.exp(-(((X - 0.68) ** 2 + (Y - 0.47) ** 2) / 0.004))
    light = 0.55 + 0.25 * X + 0.6 * spot
    for bend in (-1.9, -1.0, 0.9, 1.7):
        vessel = np.abs((Y - 0.47) - bend * (0.68 - X) * np.abs(0.68 - X) - 0.1 * bend * (0.68 - X))
        light -= 0.3 * np.exp(-((vessel / 0.012) ** 2))
    return np.stack([disc * light * level for level in (235.0, 120.0, 50.0)], axis=-1)


def chest() -> Picture:
    """A light trunk with two dark fields, crossed by ribs, and a light heart between them."""
    level = 200 - 60 * np.abs(X - 0.5)
    for side in (0.3, 0.7):
        field = np.exp(-((((X - side) / 0.15) ** 2 + ((Y - 0.45) / 0.32) ** 2) ** 2))
        level -= 150 * field * (1 - 0.25 * np.sin(2 * np.pi * (Y * 9 + 2 * (X - side) ** 2)))
    level += 70 * np.exp(-(((X - 0.55) / 0.1) ** 2 + ((Y - 0.58) / 0.13) ** 2))
    return level


def chart() -> Picture:
    """A growth chart: a grid, three centile curves and dots that cross them."""
    image = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(image)
    for at in range(16, SIZE, 24):
        draw.line([(at, 8), (at, SIZE - 8)], fill=(205, 215, 235))
        draw.line([(8, at), (SIZE - 8, at)], fill=(205, 215, 235))
    for height in (0.55, 0.7, 0.85):
        curve = [(x, SIZE - 16 - height * 220 * (1 - np.exp(-x / 90))) for x in range(8, SIZE - 8)]
        draw.line(curve, fill=(40, 90, 170), width=2)
    for x, y in ((30, 175), (70, 120), (115, 95), (160, 90), (210, 88)):
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=(190, 30, 40))
    return np.asarray(image, dtype=np.float64)


def tissue() -> Picture:
    """A coarse random texture, in the two colours of a stained slice."""
    noise = np.random.default_rng(7).normal(size=(SIZE, SIZE))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    blurred = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((frequency / 0.03) ** 2))).real
    share = 1 / (1 + np.exp(-4 * blurred / blurred.std()))
    return np.stack([235 - 110 * share, 190 - 130 * share, 215 - 60 * share], axis=-1)


def leaf() -> Picture:
    """A green leaf lying diagonally on a pale ground, with its veins."""
    along, across = (X + Y - 1) / np.sqrt(2), (X - Y) / np.sqrt(2)
    edge = 0.2 * np.cos(np.clip(along / 0.55, -1, 1) * np.pi / 2)
    inside = np.clip((edge - np.abs(across)) * 60, 0, 1)
    veins = np.maximum(np.exp(-((across / 0.008) ** 2)), np.cos(90 * (along - np.abs(across))) ** 12)
    return np.stack([ground + inside * (green + 45 * veins - ground) for ground, green in _LEAF_COLOURS], axis=-1)


_LEAF_COLOURS = ((236.0, 40.0), (230.0, 110.0), (214.0, 45.0))

PICTURES: dict[str, Callable[[], Picture]] = {
    "retina.png": retina,
    "chest.jpg": chest,
    "growth-chart.png": chart,
    "tissue.jpg": tissue,
    "leaf.jpg": leaf,
}


def main(folder: Path) -> None:
    """Writes all pictures into `folder`, and the retina once more at half its size."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        image = Image.fromarray(np.clip(draw(), 0, 255).astype(np.uint8))
        image.save(folder / name, quality=88, optimize=True)
    with Image.open(folder / "retina.png") as image:
        image.resize((SIZE // 2, SIZE // 2)).save(folder / "retina-half.jpg", quality=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
