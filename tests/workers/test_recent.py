from orchestrator.workers.recent import RecentAnswers


def test_the_least_recently_used_goes_first() -> None:
    """Beyond the number of entries, the answer longest not asked for is forgotten."""
    recent = RecentAnswers(max_entries=2)
    recent.put(("a", 1), b"a")
    recent.put(("b", 1), b"b")
    assert recent.get(("a", 1)) == b"a"
    recent.put(("c", 1), b"c")
    assert recent.get(("b", 1)) is None
    assert (recent.get(("a", 1)), recent.get(("c", 1))) == (b"a", b"c")


def test_bytes_are_bounded() -> None:
    """Answers together stay within the bytes; one larger than all of them is not kept and costs nobody their place."""
    recent = RecentAnswers(max_bytes=10)
    recent.put(("a", 1), b"12345")
    recent.put(("b", 1), b"12345")
    recent.put(("huge", 1), b"x" * 11)
    assert repr(recent) == "<RecentAnswers 2/256, 10/10 bytes>"
    recent.put(("b", 1), b"123456")
    assert recent.get(("a", 1)) is None
    assert repr(recent) == "<RecentAnswers 1/256, 6/10 bytes>"
