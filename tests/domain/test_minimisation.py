"""An agent is handed as little as it needs; a result is handed out only while consent holds."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.minimisation import handed_to
from orchestrator.domain.policy import Policy, TaskType
from orchestrator.domain.raw_media import RawMedia, without_raw_media
from orchestrator.domain.release import withheld
from orchestrator.domain.task import Consent, Override, Priority, Task
from orchestrator.testing import an_agent

KEYS = frozenset({"image", "imageref", "video"})
POLICY = Policy(
    {"analyze": TaskType(("embed",), 1.0), "embed": TaskType(("embed",), 1.0, raw_media=True)},
    frozenset({"raw_image"}),
    KEYS,
)
PLAIN, RAW = an_agent(), an_agent("agent-2", "embed", "raw_image")
BARRED = an_agent(without_raw_media=True)
GIVEN, NONE = Consent(True, "consent-1"), Consent()
PAYLOAD = {"image_ref": "x", "note": "n", "more": [{"Video": 1, "a": "data:image/png;base64,AA"}]}
STRIPPED = {"note": "n", "more": [{"a": None}]}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
texts = st.sampled_from(["image", "IMAGE-REF", "note", "data:video/mp4,x", "data:text/plain,x"]) | st.text(max_size=5)
values = st.recursive(
    scalars | texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=12
)


def a_task(task_type: str = "analyze", consent: Consent = GIVEN, **fields: Any) -> Task:
    usual: dict[str, Any] = {
        "task_id": "task-1", "case_id": "c", "task_type": task_type, "payload": PAYLOAD, "priority": Priority.NORMAL,
        "consent": consent, "meta": {"image": 1}, "raw_media": True, "created_at": 0.0, "deadline_at": 9.0,
    }  # fmt: skip
    return Task(**(usual | fields))


@given(values)
def test_nothing_raw_is_left(value):
    """And nothing else is taken: what holds no raw media stays as it is."""
    left = without_raw_media(value, KEYS)
    assert not RawMedia(KEYS).is_in(left)
    if not RawMedia(KEYS).is_in(value):
        assert left == value


def test_what_is_no_json_counts_as_raw():
    """Doubt is decided for the patient here as well."""
    assert without_raw_media({"a": b"bytes", "b": (1, b"x")}, KEYS) == {"a": None, "b": [1, None]}


@pytest.mark.parametrize(
    ("agent", "task_type", "consent", "whole"),
    [
        (RAW, "analyze", GIVEN, True),
        (BARRED, "analyze", GIVEN, False),
        (BARRED, "embed", GIVEN, False),
        (RAW, "embed", GIVEN, True),
        (PLAIN, "embed", GIVEN, True),
        (PLAIN, "analyze", GIVEN, False),
        (RAW, "analyze", NONE, False),
        (RAW, "embed", NONE, False),
        (PLAIN, "embed", NONE, False),
    ],
)
def test_raw_media(agent, task_type, consent, whole):
    """It is for agents of raw media, and for types that need it; and for nobody without consent."""
    payload, meta = handed_to(agent, a_task(task_type, consent), 1.0, POLICY)
    assert (payload, meta) == ((PAYLOAD, {"image": 1}) if whole else (STRIPPED, {}))


def test_no_raw_media():
    """What carries none is handed on as it is, at no cost."""
    task = a_task(payload={"note": "n"}, meta={}, raw_media=False, consent=NONE)
    assert handed_to(PLAIN, task, 1.0, POLICY)[0] is task.payload


EXPIRED = Consent(True, "c", datetime.fromtimestamp(5.0, UTC))


@pytest.mark.parametrize("raw_media", [True, False])
@pytest.mark.parametrize("revoked", [True, False])
@pytest.mark.parametrize("consent", [GIVEN, NONE, EXPIRED])
def test_result(raw_media, revoked, consent):
    """A revoked consent holds it back in any case, an expired one where raw media needed it."""
    reason = withheld(a_task(consent=consent, raw_media=raw_media), 5.0, revoked=revoked)
    expected = "consent_revoked" if revoked else "consent_expired" if raw_media and consent is not GIVEN else None
    assert reason == expected


def test_override():
    """It counts as consent up to its end, and never beyond what the consent itself says."""
    end = datetime.fromtimestamp(100.0, UTC)
    override = Consent(override=Override("arrest", "dr-1"))
    assert override.holds(10**9)
    assert override.until(end).holds(99.9)
    assert not override.until(end).holds(100.0)
    sooner = Consent(expires_at=datetime.fromtimestamp(50.0, UTC), override=override.override)
    assert not sooner.until(end).holds(50.0)
