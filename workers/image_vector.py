"""An image as 256 numbers that survive resizing and recompression: the low frequencies of its grey picture.

It finds copies of an image. It says nothing of what the image shows, and two clinical pictures of one kind may lie near
each other.

The picture is turned upright (EXIF), laid on white, made grey, and resized to 64 by 64; of its two-dimensional DCT-II
(orthonormal; N. Ahmed et al., IEEE Trans. Comput. C-23, 1974) the 16 by 16 lowest frequencies are kept. Each is
weighted by the root of its distance from zero: pictures have their energy in the lowest ones, where all of them are
alike. The mean brightness says nothing, and its place holds a constant, half a grey level: a picture without structure
is thus a vector too, and the noise in an almost flat one weighs little.
"""

from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from orchestrator.workers.task import Permanent

Vector = NDArray[np.float64]

GRID, KEPT = 64, 16
SIZE = KEPT * KEPT
MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""What is decoded. Pillow knows more, some by starting other programs."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """`vector` has 256 numbers and length 1; width and height are in pixels, upright; sha256 is of the file."""

    vector: list[float]
    width: int
    height: int
    sha256: str


def embed_image(data: bytes) -> Embedding:
    """The embedding of the image file `data`. Raises Permanent if it is no image or beyond 50 million pixels."""
    picture, width, height = _grey(data)
    vector = unit(_low_frequencies(picture))
    return Embedding([round(float(x), 8) for x in vector], width, height, sha256(data).hexdigest())


def unit(vector: Vector) -> Vector:
    """`vector` with length 1. It must not be zero."""
    return vector / np.linalg.norm(vector)


def _grey(data: bytes) -> tuple[Vector, int, int]:
    """The picture as 64 by 64 grey levels, and its real width and height."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Permanent(f"image_ref: an image of more than {MAX_PIXELS} pixels")
            upright = ImageOps.exif_transpose(image)
            width, height = upright.size
            grey = _on_white(upright).convert("F").resize((GRID, GRID), Image.Resampling.BILINEAR)
            return np.asarray(grey, dtype=np.float64), width, height
    except Permanent:
        raise
    except Exception:  # noqa: BLE001 - a decoder of untrusted bytes fails in every way there is
        raise Permanent("image_ref: not an image that can be decoded") from None


def _on_white(image: Image.Image) -> Image.Image:
    """What is transparent shows white. Other pictures stay as they are, 16-bit ones with all their levels."""
    if not image.has_transparency_data:
        return image if image.mode.startswith(("I", "F")) else image.convert("L")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("L")


def _low_frequencies(picture: Vector) -> Vector:
    vector = (_WEIGHTS * (_DCT @ picture @ _DCT.T)).ravel()
    vector[0] = 0.5 * GRID  # the DC coefficient of a picture that is half a grey level everywhere
    return vector


def _dct_rows() -> Vector:
    """The first 16 rows of the orthonormal DCT-II matrix of size 64."""
    k, n = np.arange(KEPT)[:, None], np.arange(GRID)[None, :]
    rows = np.sqrt(2 / GRID) * np.cos(np.pi * k * (2 * n + 1) / (2 * GRID))
    rows[0] /= np.sqrt(2)
    return rows


_DCT = _dct_rows()
_WEIGHTS: Vector = np.sqrt(np.hypot(*np.indices((KEPT, KEPT))))
