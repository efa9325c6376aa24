"""One key is one request: what counts as the same request."""

import json
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.idempotency import fingerprint
from orchestrator.domain.strict_json import decode
from orchestrator.domain.task import TaskRequest

BODY: dict[str, Any] = {
    "case_id": "case-1",
    "task_type": "embed",
    "payload": {"a": 1, "b": {"c": [1, 2, {"d": None}], "e": "f"}},
    "priority": "high",
    "consent": {"consent_given": True, "consent_id": "consent-1", "expires_at": "2030-01-01T00:00:00Z"},
    "meta": {"site": "edge-1"},
    "deadline_s": 60.0,
    "not_before": "2029-01-01T00:00:00Z",
}
SHORT: dict[str, Any] = {"case_id": "case-1", "task_type": "embed", "payload": {}}


def mark(text: str) -> str:
    return fingerprint(msgspec.convert(decode(text.encode()), TaskRequest))


def changed(body: dict[str, Any], path: str, value: Any) -> str:
    body = deepcopy(body)
    *parents, last = path.split(".")
    branch = body
    for parent in parents:
        branch = branch[parent]
    branch[last] = value
    return mark(json.dumps(body))


def backwards(value: Any) -> Any:
    """The same value with the members of each object in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", [BODY, SHORT], ids=["full", "short"])
def test_another_spelling(body):
    """Order and spaces make no difference, on whatever level; nor does the key itself."""
    first = mark(json.dumps(body))
    assert mark(json.dumps(backwards(body))) == first
    assert mark(json.dumps(body, indent=4)) == first
    assert mark(json.dumps(body, separators=(",", ":"))) == first
    assert changed(body, "idempotency_key", "key-1") == first
    assert mark(json.dumps(body).replace("case-1", r"c\u0061se-1")) == first


def test_defaults_spelt_out():
    """To say what goes without saying is to say the same."""
    first = mark(json.dumps(SHORT))
    defaults = {"priority": "normal", "consent": {}, "meta": {}, "deadline_s": None, "not_before": None}
    consent = {"consent_given": False, "consent_id": None, "expires_at": None}
    assert mark(json.dumps({**SHORT, **defaults})) == first
    assert mark(json.dumps({**SHORT, "consent": consent})) == first


def test_whole_seconds():
    """A deadline is a number of seconds, however it is written."""
    assert changed(BODY, "deadline_s", 60) == mark(json.dumps(BODY))


CHANGES = [
    ("case_id", "case-2"),
    ("task_type", "indexing"),
    ("payload", {}),
    ("payload.a", 2),
    ("payload.a", "1"),
    ("payload.a", True),
    ("payload.a", None),
    ("payload.z", None),
    ("payload.b.c", [2, 1, {"d": None}]),
    ("payload.b.c", [1, 2, {"d": False}]),
    ("payload.b.c", [1, 2, {}]),
    ("payload.b.e", "F"),
    ("payload.b.e", "f "),
    ("priority", "urgent"),
    ("consent", {}),
    ("consent.consent_given", False),
    ("consent.consent_id", "consent-2"),
    ("consent.consent_id", None),
    ("consent.expires_at", "2030-01-01T00:00:01Z"),
    ("consent.expires_at", None),
    ("meta", {}),
    ("meta.site", "edge-2"),
    ("meta.note", "x"),
    ("deadline_s", 61),
    ("deadline_s", None),
    ("not_before", "2029-01-01T00:00:00.000001Z"),
    ("not_before", None),
    ("callback_url", "https://clinic.example/told"),
]


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_any_other_change(path, value):
    """Makes it another request."""
    assert changed(BODY, path, value) != mark(json.dumps(BODY))


def test_every_field_has_its_change():
    """A field that is added to the request counts, or its change is missing from the list above."""
    assert {path.partition(".")[0] for path, _ in CHANGES} == set(TaskRequest.__struct_fields__) - {"idempotency_key"}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=2), values), st.dictionaries(st.text(max_size=2), values))
def test_any_two_payloads(one, other):
    """Have the same mark when they are the same JSON, and otherwise not."""
    first, second = (fingerprint(TaskRequest(case_id="c", task_type="t", payload=payload)) for payload in (one, other))
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (first == second) == same
    assert fingerprint(TaskRequest(case_id="c", task_type="t", payload=backwards(one))) == first
