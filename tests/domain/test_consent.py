"""Consent is the JSON literal `true`, unexpired; nothing else is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.strict_json import decode
from orchestrator.domain.task import Consent, TaskRequest

EXPIRY = 1_700_000_000.0
EXPIRES_AT = "2023-11-14T22:13:20Z"


def consent(**fields: Any) -> Consent:
    return msgspec.convert(fields, Consent)


def test_nothing_said():
    """Is no consent."""
    assert not Consent().holds(0.0)
    assert not TaskRequest(case_id="c", task_type="t", payload={}).consent.holds(0.0)
    assert not consent(consent_id="c-1").holds(0.0)


@pytest.mark.parametrize(("given", "holds"), [(True, True), (False, False)])
def test_the_literals(given, holds):
    """Are taken as what they say."""
    assert consent(consent_given=given).holds(0.0) is holds


@pytest.mark.parametrize("text", ['"true"', "1", "1.0", "[]", "[true]", "{}", "null", '"yes"', '""', "0", '{"a":true}'])
def test_what_is_no_literal(text):
    """Does not become consent, nor a refusal of it: the request is refused."""
    body = decode(b'{"consent_given": ' + text.encode() + b"}")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, Consent)


@pytest.mark.parametrize("given", [1, "true", [True], object()])
def test_a_value_that_no_decoder_has_seen(given):
    """A program that embeds us may build a Consent of anything; only True holds."""
    assert not Consent(consent_given=given).holds(0.0)


@pytest.mark.parametrize("fields", [{"consent_given": True, "given": True}, {"Consent_given": True}, {"consent": True}])
def test_fields_that_there_are_not(fields):
    """Are refused, so that a misspelt one is not taken for none."""
    with pytest.raises(msgspec.ValidationError):
        consent(**fields)


@pytest.mark.parametrize("value", [None, True, "true", [], 1])
def test_consent_that_is_no_object(value):
    """Is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"case_id": "c", "task_type": "t", "payload": {}, "consent": value}, TaskRequest)


@pytest.mark.parametrize(("now", "holds"), [(EXPIRY - 0.001, True), (EXPIRY, False), (EXPIRY + 0.001, False)])
def test_expiry(now, holds):
    """It holds until the instant of its expiry, and no longer at it."""
    assert consent(consent_given=True, expires_at=EXPIRES_AT).holds(now) is holds


@pytest.mark.parametrize("text", ["2023-11-15T03:43:20+05:30", "2023-11-14T17:13:20-05:00"])
def test_expiry_in_another_zone(text):
    """Is the same instant."""
    read = consent(consent_given=True, expires_at=text)
    assert read.holds(EXPIRY - 0.001)
    assert not read.holds(EXPIRY)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_expiry_at_the_ends_of_time(text):
    """Is an instant like any other."""
    assert consent(consent_given=True, expires_at=text).holds(EXPIRY) is text.startswith("9")


@pytest.mark.parametrize("value", ["2023-11-14T22:13:20", "2023-11-14", "tomorrow", "", EXPIRY, True, []])
def test_expiry_that_is_no_instant(value):
    """Without an offset nobody knows when it is: it is refused, not guessed."""
    with pytest.raises(msgspec.ValidationError):
        consent(consent_given=True, expires_at=value)


def test_an_expiry_without_consent():
    """Gives none."""
    assert not consent(consent_given=False, expires_at="9999-01-01T00:00:00Z").holds(0.0)


@given(st.floats(-1e9, 4e9), st.floats(-1e9, 4e9))
def test_expired_once(earlier, later):
    """Consent that has ended does not come back with time."""
    earlier, later = sorted((earlier, later))
    read = consent(consent_given=True, expires_at=EXPIRES_AT)
    assert read.holds(earlier) or not read.holds(later)
