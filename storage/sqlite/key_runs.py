"""Runs: idempotency keys of a time, in the order of their digests. A run is written once, and what is in it stays so.

It is 128 rows, by the first seven bits of a digest: of 32,768 keys there are 256 in each, which is a page.

In which runs a key may be is known from memory, at two bytes a key, from a Bloom filter (Commun. ACM 13:7, 1970) for
each; eight of them stand side by side, so that one look asks all eight (as in BitFunnel, SIGIR 2017). A digest is
random in all its bits: its eight words are eight hashes, each with a slice of its own. Of the 65,536 places in a slice
such a run takes four in ten, so that one key in 1,750 seems to be in a run and is not.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping

ROWS = 128
_ENTRY, _HALF = 12, 6
_PLACES = 1 << 16
_words = struct.Struct("<8H")
_DIGITS = tuple(bytes(b"01"[number >> bit & 1] for number in range(256)) for bit in range(8))
"""For each run of eight: where it is in a place, as a digit."""


def rows_of(keys: Mapping[bytes, int]) -> list[list[bytes]]:
    """Digests for each row of a run."""
    rows = [list[bytes]() for _ in range(ROWS)]
    for digest in keys:
        rows[digest[0] >> 1].append(digest)
    return rows


def row(keys: Mapping[bytes, int], digests: Iterable[bytes]) -> bytes:
    """As it is stored: half of a digest is enough to know where to look. Each with the seq of its task."""
    return b"".join([digest[:_HALF] + keys[digest].to_bytes(_HALF) for digest in digests])


def place(run: int, digest: bytes) -> int:
    """The number of its row."""
    return run * ROWS + (digest[0] >> 1)


def seqs(stored: bytes, digest: bytes) -> Iterator[int]:
    """Those that stand in the row with such a digest."""
    half, at = digest[:_HALF], -1
    while (at := stored.find(half, at + 1)) >= 0:
        if at % _ENTRY == 0:
            yield int.from_bytes(stored[at + _HALF : at + _ENTRY])


class Filters:
    """Of all runs, by their numbers. What is in one is always found; what is not, hardly ever."""

    def __init__(self) -> None:
        self._eights = dict[int, tuple[bytearray, ...]]()

    def add(self, run: int, digests: Iterable[bytes]) -> None:
        """They are in the run."""
        bit, slices = 1 << run % 8, self._slices(run)
        for places, words in zip(slices, zip(*_words.iter_unpack(b"".join(digests)), strict=True), strict=False):
            for word in words:
                places[word] |= bit

    def stored(self, run: int) -> bytes:
        """The filter of one run, a bit for each place."""
        digits = _DIGITS[run % 8]
        return b"".join(int(places.translate(digits), 2).to_bytes(_PLACES // 8) for places in self._slices(run))

    def load(self, run: int, stored: bytes) -> None:
        """What was stored of the run."""
        bits = bytes.maketrans(b"01", bytes((0, 1 << run % 8)))
        for number, places in enumerate(self._slices(run)):
            part = stored[number * _PLACES // 8 : (number + 1) * _PLACES // 8]
            spread = f"{int.from_bytes(part):0{_PLACES}b}".encode().translate(bits)
            places[:] = (int.from_bytes(places) | int.from_bytes(spread)).to_bytes(_PLACES)

    def keep(self, runs: Iterable[int]) -> None:
        """There are no others."""
        eights = {run // 8 for run in runs}
        self._eights = {eight: slices for eight, slices in self._eights.items() if eight in eights}

    def runs(self, digests: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Each digest with each run that it may be in."""
        # Written out, since each key that comes is looked for in all of them.
        eights = [(8 * eight, slices) for eight, slices in self._eights.items()]
        for digest in digests:
            words: tuple[int, ...] = _words.unpack(digest)
            a, b, c, d, e, f, g, h = words
            for first, (in_a, in_b, in_c, in_d, in_e, in_f, in_g, in_h) in eights:
                found = in_a[a] & in_b[b] & in_c[c] & in_d[d]
                if found and (found := found & in_e[e] & in_f[f] & in_g[g] & in_h[h]):
                    yield from ((digest, first + bit) for bit in range(8) if found >> bit & 1)

    def _slices(self, run: int) -> tuple[bytearray, ...]:
        eight = run // 8
        if eight not in self._eights:
            self._eights[eight] = tuple(bytearray(_PLACES) for _ in range(8))
        return self._eights[eight]
