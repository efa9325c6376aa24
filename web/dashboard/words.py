"""Numbers and states in the words of the page."""

from datetime import UTC, datetime

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_GLYPHS = {"good": "●", "warn": "▲", "bad": "■", "quiet": "○"}


def span(seconds: float | None) -> str:
    """A duration in its largest unit; from the first second on in whole ones."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "0" if seconds < 0.00005 else f"{_three(seconds * 1_000)} ms"
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def ago(seconds: float | None) -> str:
    """How long ago, so coarse that it seldom changes."""
    if seconds is None:
        return "never"
    return "just now" if seconds < 10 else f"{span(seconds - seconds % (10 if seconds < 120 else 1))} ago"


def count(number: float) -> str:
    """A count with its thousands apart; one decimal where it is a small rate."""
    if number != int(number) and number < 10:
        return f"{number:.1f}"
    return f"{number:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share of one."""
    return f"{share * 100:.0f} %" if share == 0 or share >= 0.01 else "< 1 %"


def clock(at: float) -> str:
    """An instant, in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def stamp(text: str) -> str:
    """An instant in RFC 3339, as `clock` has it, with its milliseconds."""
    return text.replace("T", " ")[:23]


def glyph(tone: str) -> str:
    """What says the tone to those who do not see its colour."""
    return _GLYPHS[tone]


def _three(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


FILTERS = {
    "span": span, "ago": ago, "count": count, "percent": percent, "clock": clock, "stamp": stamp, "glyph": glyph,
}  # fmt: skip
