import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from orchestrator.workers import Permanent
from orchestrator.workers.embedder_worker import embedder
from orchestrator.workers.image_source import ImageSource
from orchestrator.workers.image_vector import embed_image
from orchestrator.workers.testing import StubOrchestrator, running
from orchestrator.workers.vector_index import VectorIndex

Levels = NDArray[np.float64]

SAMPLES = ["retina.png", "chest.jpg", "growth-chart.png", "tissue.jpg", "leaf.jpg"]
RNG = np.random.default_rng(11)
Y, X = np.mgrid[0:200, 0:200] / 200


def clouds(power: float, size: int = 200) -> Levels:
    """Random levels whose amplitudes fall as 1/frequency^power: 1 to 1.5 is what photographs have."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    frequency[0, 0] = 1
    levels = np.fft.ifft2(np.fft.fft2(RNG.normal(size=(size, size))) / frequency**power).real
    return 128 + 45 * (levels - levels.mean()) / levels.std()


DRAWN: dict[str, Levels] = {
    "noise": RNG.uniform(0, 255, (200, 200)),
    "small noise": RNG.uniform(0, 255, (64, 64)),
    "gradient across": X * 255,
    "gradient down": Y * 255,
    "disc": 255.0 * (np.hypot(X - 0.5, Y - 0.5) < 0.4),
    "ring": 255.0 * (np.abs(np.hypot(X - 0.5, Y - 0.5) - 0.3) < 0.05),
    "stripes": 127 + 120 * np.sin(X * 30),
    "photo 1": clouds(1.0),
    "photo 2": clouds(1.5),
    "photo 3": clouds(1.5),
    "wide photo": clouds(1.2, 300)[:150],
}


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def picture(levels: Levels) -> Image.Image:
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def vector(data: bytes) -> Levels:
    return np.array(embed_image(data).vector)


def resized(image: Image.Image, factor: float) -> bytes:
    return encode(image.resize((round(image.width * factor), round(image.height * factor))))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "half": lambda image: resized(image, 0.5),
    "double": lambda image: resized(image, 2),
    "jpeg 40": lambda image: encode(image, "JPEG", quality=40),
}


@pytest.fixture(params=SAMPLES + list(DRAWN))
def any_image(request: pytest.FixtureRequest, examples: Path) -> Image.Image:
    if request.param in DRAWN:
        return picture(DRAWN[request.param])
    with Image.open(examples / "images" / request.param) as image:
        return image.convert("RGB")


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_near(any_image: Image.Image, copy: str) -> None:
    """A resized or recompressed copy of any image has a cosine above 0.98 with it."""
    assert vector(encode(any_image)) @ vector(COPIES[copy](any_image)) > 0.98


def test_different_images_are_apart(examples: Path) -> None:
    """Any two of the different samples and drawn pictures have a cosine below 0.8."""
    vectors = {name: vector((examples / "images" / name).read_bytes()) for name in SAMPLES}
    vectors |= {name: vector(encode(picture(levels))) for name, levels in DRAWN.items()}
    near = [(a, b) for a, b in combinations(vectors, 2) if vectors[a] @ vectors[b] >= 0.8]
    assert near == []


def test_the_vector_has_length_one(any_image: Image.Image) -> None:
    """256 finite numbers of length 1; the size is the picture's."""
    found = embed_image(encode(any_image))
    assert len(found.vector) == 256
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-6)
    assert (found.width, found.height) == any_image.size


def test_a_picture_without_structure() -> None:
    """A flat picture has a vector too, and flat pictures are alike, whatever their level and however compressed."""
    black, grey = Image.new("L", (50, 80)), Image.new("RGB", (300, 300), (120, 130, 140))
    assert vector(encode(black)) @ vector(encode(grey, "JPEG", quality=40)) > 0.98
    assert vector(encode(Image.new("L", (1, 1)))) @ vector(encode(black)) > 0.98


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16", "I"])
def test_pixel_formats(mode: str) -> None:
    """However pixels are stored, one picture is one vector; 16-bit levels are scaled, not cut off."""
    grey = picture(DRAWN["photo 2"])
    if mode.startswith("I"):
        deep = np.asarray(grey).astype(np.uint16) * 200
        image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(deep.astype(np.int32))
    else:
        image = grey.convert("RGB").convert(mode)
    limit = 0.8 if mode == "1" else 0.98
    assert vector(encode(image, "TIFF")) @ vector(encode(grey)) > limit


def test_transparent_parts_show_white() -> None:
    """What a viewer shows is what counts, not the colour hidden under the transparency."""
    levels = picture(DRAWN["disc"])
    clear = Image.new("RGBA", levels.size, (0, 0, 0, 0))
    clear.putalpha(Image.eval(levels, lambda level: 255 - level))
    assert vector(encode(clear)) @ vector(encode(levels)) > 0.98


def test_exif_orientation() -> None:
    """A picture stored on its side is turned upright first: its vector and size are those of the upright one."""
    upright = picture(DRAWN["wide photo"])
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = encode(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    found = embed_image(sideways)
    assert (found.width, found.height) == upright.size
    assert np.array(found.vector) @ vector(encode(upright)) > 0.999


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Bad:
    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


BAD = [
    Bad("empty", b""),
    Bad("text", b"not an image at all"),
    Bad("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    Bad("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    Bad("a format not on the list", encode(picture(DRAWN["photo 1"]), "PPM")),
    Bad("cut short", encode(picture(DRAWN["photo 1"]))[:2000]),
    Bad("bomb of 60 million pixels", bomb(10_000, 6_000)),
    Bad("bomb of 2 thousand million pixels", bomb(50_000, 40_000)),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_no_image(bad: Bad) -> None:
    """What cannot be decoded, or would fill the memory, is refused for good."""
    with pytest.raises(Permanent, match="image_ref"):
        embed_image(bad.data)


@pytest.mark.anyio
async def test_embedding_and_indexing(stub: StubOrchestrator, examples: Path, tmp_path: Path) -> None:
    """An image's vector, indexed, is found as its smaller copy's neighbour; all capabilities are declared."""
    index = VectorIndex(tmp_path / "index.jsonl")
    async with running(embedder(ImageSource(examples), index), stub) as served:
        assert set(served.card["capabilities"]) == {"embed", "raw_image", "indexing"}
        for name in ("retina.png", "leaf.jpg", "retina-half.jpg"):
            _, answer = await served.call("embed", {"image_ref": f"images/{name}"}, task_id=name)
            output = answer["output"]
            assert output["norm"] == 1.0
            entry = {"key": name, "vector": output["vector"]}
            _, answer = await served.call("indexing", entry, task_id=f"index-{name}")
    nearest, other = answer["output"]["neighbours"]
    assert answer["output"]["size"] == 3
    assert (nearest["key"], other["key"]) == ("retina.png", "leaf.jpg")
    assert nearest["cosine"] > 0.98 > 0.8 > other["cosine"]
    assert (output["width"], output["height"], answer["model_version"]) == (128, 128, "dct256-1")
    index.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"key": "", "vector": [1.0] * 256},
        {"key": "k" * 201, "vector": [1.0] * 256},
        {"key": "k", "vector": [1.0] * 255},
        {"key": "k", "vector": "x" * 256},
        {"key": "k", "vector": [True] * 256},
        {"key": "k", "vector": [0] * 256},
        {"key": "k", "vector": [1e308] * 256},
        {"key": "k", "vector": [10**300] * 256},
    ],
)
async def test_bad_vectors(stub: StubOrchestrator, tmp_path: Path, payload: dict[str, object]) -> None:
    """A key or vector that is none is refused, for good, and nothing is stored."""
    index = VectorIndex()
    async with running(embedder(ImageSource(tmp_path), index), stub) as served:
        status, answer = await served.call("indexing", payload)
    assert status == 400 or answer["error"]["retryable"] is False
    assert len(index) == 0


def directions(count: int) -> Levels:
    return np.random.default_rng(5).normal(size=(count, 256))


def test_neighbours_are_the_nearest() -> None:
    """The nearest come first, as many as asked for, never the key itself."""
    index, vectors = VectorIndex(), directions(200)
    for number, direction in enumerate(vectors):
        index.add(str(number), direction)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units[7]
    expected = [int(number) for number in np.argsort(-cosines) if number != 7][:3]
    found = index.add("7", vectors[7], count=3)
    assert [key for key, _ in found] == [str(number) for number in expected]
    assert [cosine for _, cosine in found] == pytest.approx([float(cosines[number]) for number in expected])


def test_the_index_file(tmp_path: Path) -> None:
    """The index is there again after a restart; a repeat writes nothing, and a key's last vector counts."""
    path, (first, second, third) = tmp_path / "index.jsonl", directions(3)
    index = VectorIndex(path)
    for key, direction in (("a", first), ("a", first), ("b", second), ("a", third)):
        index.add(key, direction)
    index.close()
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b", "a"]
    index = VectorIndex(path)
    assert len(index) == 2
    (nearest, cosine), _ = index.add("c", third)
    assert (nearest, round(cosine, 9)) == ("a", 1.0)
    index.close()


def test_a_full_index() -> None:
    """It refuses new keys and still takes the known ones."""
    index, (first, second) = VectorIndex(max_entries=1), directions(2)
    index.add("a", first)
    index.add("a", second)
    with pytest.raises(Permanent, match="full"):
        index.add("b", second)
