"""Runs: idempotency keys of a time, in the order of their digests. A run is written once, and what is in it stays so.

It is 128 rows, by the first seven bits of a digest: of 32,768 keys there are 256 in each, which is a page.

In which runs a key may be is known from memory, at two bytes a key, from a Bloom filter (Commun. ACM 13:7, 1970) for
each; eight of them stand side by side, so that one look asks all eight (as in BitFunnel, SIGIR 2017). All places of a
key are within 128 bytes, which the processor fetches at once (Putze et al., WEA 2007). A digest is random in all its
bits, so that its bytes are the hashes. One key in 500 seems to be in a run of 32,768 and is not.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

ROWS = 128
_ENTRY, _HALF = 12, 6
_BLOCKS, _BLOCK = 4_096, 128
_PLACES = _BLOCKS * _BLOCK
_hashes = struct.Struct("<H7B7x")
_hashes_and_seq = struct.Struct("<H7B7x6x")
_half_and_seq = struct.Struct("6s10x6s")
_DIGITS = tuple(bytes(b"01"[number >> bit & 1] for number in range(256)) for bit in range(8))
"""For each run of eight: where it is in a place, as a digit."""


def rows_of(keys: Mapping[bytes, int]) -> list[bytearray]:
    """For each row of a run its keys: digests, and behind each the seq of its task in six bytes."""
    rows = [bytearray() for _ in range(ROWS)]
    for digest, seq in keys.items():
        rows[digest[0] >> 1] += digest + seq.to_bytes(_HALF)
    return rows


def row(keys: bytearray) -> bytes:
    """As it is stored: half of a digest is enough to know where to look. Each with the seq of its task."""
    return b"".join(chain.from_iterable(_half_and_seq.iter_unpack(keys)))


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
        self._eights = defaultdict[int, bytearray](lambda: bytearray(_PLACES))

    def add(self, run: int, keys: bytearray) -> None:
        """They are in the run, in such a row."""
        bit, places = 1 << run % 8, self._eights[run // 8]
        for block, *within in _hashes_and_seq.iter_unpack(keys):
            first = block % _BLOCKS * _BLOCK
            for byte in within:
                places[first + byte % _BLOCK] |= bit

    def stored(self, run: int) -> bytes:
        """The filter of one run, a bit for each place."""
        digits = self._eights[run // 8].translate(_DIGITS[run % 8])
        return int(digits, 2).to_bytes(_PLACES // 8)

    def load(self, run: int, stored: bytes) -> None:
        """What was stored of the run."""
        bits = bytes.maketrans(b"01", bytes((0, 1 << run % 8)))
        places = f"{int.from_bytes(stored):0{_PLACES}b}".encode().translate(bits)
        all_eight = self._eights[run // 8]
        all_eight[:] = (int.from_bytes(all_eight) | int.from_bytes(places)).to_bytes(_PLACES)

    def keep(self, runs: Iterable[int]) -> None:
        """There are no others."""
        for eight in self._eights.keys() - {run // 8 for run in runs}:
            del self._eights[eight]

    def runs(self, digests: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Each digest with each run that it may be in."""
        # Written out, since each key that comes is looked for in all of them.
        eights = [(8 * eight, places) for eight, places in self._eights.items()]
        for digest in digests:
            hashes: tuple[int, ...] = _hashes.unpack(digest)
            block, a, b, c, d, e, f, g = hashes
            block = block % _BLOCKS * _BLOCK
            a, b, c, d = block + a % _BLOCK, block + b % _BLOCK, block + c % _BLOCK, block + d % _BLOCK
            e, f, g = block + e % _BLOCK, block + f % _BLOCK, block + g % _BLOCK
            for first, places in eights:
                if (found := places[a] & places[b] & places[c] & places[d]) and (
                    found := found & places[e] & places[f] & places[g]
                ):
                    yield from ((digest, first + bit) for bit in range(8) if found >> bit & 1)
