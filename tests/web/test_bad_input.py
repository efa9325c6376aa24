"""What clients get wrong, or try: each gets a clear problem, leaves nothing behind, and never hears its own words."""

import asyncio
import json
from typing import Any

import pytest

from orchestrator.testing import Reply, Service, a_task

pytestmark = pytest.mark.anyio

CANARY = "canary7"
JSON = {"Content-Type": "application/json"}
TABLES = ("tasks", "results", "idempotency_keys", "audit_entries", "agents")
GOOD = json.dumps(a_task()).encode()


def nested(depth: int) -> bytes:
    return b'{"case_id":"c","task_type":"embed","payload":{"a":' + b"[" * depth + b"]" * depth + b"}}"


def body(**fields: Any) -> bytes:
    return json.dumps({**a_task(), **fields}).encode()


NOT_JSON = {
    "nothing": b"",
    "words": b"canary7",
    "a cut object": b'{"case_id": "canary7',
    "a comma too many": b'{"canary7": 1,}',
    "two values": GOOD + b"{}",
    "single quotes": b"{'canary7': 1}",
    "a comment": GOOD + b"// canary7",
    "a duplicate key": b'{"canary7": 1, "canary7": 2}',
    "consent twice": body().replace(
        b"}}", b'}, "consent": {"consent_given": false}, "consent": {"consent_given": true}}'
    ),
    "a duplicate key below": body().replace(b'"text"', b'"canary7": 1, "canary7"'),
    "the same key spelled differently": b'{"c\\u0061nary7": 1, "canary7": 2}',
    "NaN": body().replace(b'"hello"', b"NaN"),
    "infinity": body().replace(b'"hello"', b"-Infinity"),
    "beyond a double": body().replace(b'"hello"', b"1e999"),
    "beyond 2^53": body().replace(b'"hello"', b"9007199254740993"),
    "thousands of digits": body().replace(b'"hello"', b"9" * 5000),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "Latin-1": body().replace(b"hello", b"h\xe4llo"),
    "a lone surrogate": body().replace(b"hello", b"\\ud800canary7"),
    "a lone surrogate in a key": body().replace(b'"text"', b'"\\udfffcanary7"'),
    "encoded surrogates": body().replace(b"hello", b"\xed\xa0\x80"),
    "NUL": body().replace(b"hello", b"canary7\\u0000"),
    "a bare NUL": body().replace(b"hello", b"canary7\x00"),
    "NUL in a key": body().replace(b'"text"', b'"canary7\\u0000"'),
    "33 levels": nested(32),
    "5,000 levels": nested(5000),
    "60,000 levels": nested(60_000),
    "2,000 keys": json.dumps({f"{CANARY}{n}": n for n in range(2000)}).encode(),
}

DOES_NOT_FIT: dict[str, bytes] = {
    "an array": b'["canary7"]',
    "a string": b'"canary7"',
    "a number": b"7",
    "null": b"null",
    "an unknown field": body(canary7=1),
    "an unknown field with a tail": body(**{"x` - at `$.canary7": 1}),
    "an unknown field with a false path": body(**{"x - at canary7": 1}),
    "an unknown field of two lines": body(**{"x\ncanary7": 1}),
    "an unknown field of consent": body(consent={"consent_given": True, "canary7": 1}),
    "state from outside": body(state="succeeded"),
    "an id from outside": body(task_id="task-canary7"),
    "an unknown priority": body(priority="canary7"),
    "an unknown priority of two lines": body(priority="x'\ncanary7 - at `$.canary7`"),
    "a priority in capitals": body(priority="URGENT"),
    "priority null": body(priority=None),
    "an empty case": body(case_id=""),
    "an empty type": body(task_type=""),
    "a long case": body(case_id=CANARY + "x" * 5000),
    "a long type": body(task_type=CANARY + "x" * 5000),
    "a case with a newline": body(case_id="canary7\nx"),
    "a case with DEL": body(case_id="canary7").replace(b"canary7", b"canary7\x7f"),
    "a type with DEL": body(task_type="canary7").replace(b"canary7", b"canary7\x7f"),
    "a key with DEL": body(idempotency_key="canary7").replace(b"canary7", b"canary7\x7f"),
    "a case that is a number": body(case_id=7),
    "a case that is null": body(case_id=None),
    "no case": b'{"task_type": "embed", "payload": {}}',
    "no payload": b'{"case_id": "canary7", "task_type": "embed"}',
    "a payload that is a list": body(payload=["canary7"]),
    "a payload that is null": body(payload=None),
    "meta that is a string": body(meta="canary7"),
    "meta null": body(meta=None),
    "a deadline of zero": body(deadline_s=0),
    "a negative deadline": body(deadline_s=-1),
    "a deadline of years": body(deadline_s=1e9),
    "a deadline as text": body(deadline_s="10"),
    "not_before without an offset": body(not_before="2030-01-01T00:00:00"),
    "not_before beyond the deadline": body(not_before="2999-01-01T00:00:00Z"),
    "not_before at the end of time": body(not_before="9999-12-31T23:59:59-23:59"),
    "not_before that is no date": body(not_before="canary7"),
    "an empty key": body(idempotency_key=""),
    "a long key": body(idempotency_key=CANARY * 100),
    "a key that is a number": body(idempotency_key=7),
    **{f"consent {value!r}": body(consent=value) for value in ("true", True, 1, [], None, "canary7")},
    **{
        f"consent_given {value!r}": body(consent={"consent_given": value})
        for value in ("true", "yes", 1, 0, [], {}, None)
    },
    "consent_id empty": body(consent={"consent_given": True, "consent_id": ""}),
    "expires_at without an offset": body(consent={"consent_given": True, "expires_at": "2030-01-01T00:00:00"}),
    "expires_at as a number": body(consent={"consent_given": True, "expires_at": 4e9}),
}


async def refuses(service: Service, rows: Any, status: int, code: str, **options: Any) -> Reply:
    """Posts a task that must be refused so, with nothing left behind and nothing of it in the answer."""
    reply = await service.ask("POST", "/route_task", **options)
    assert (reply.status, reply.json["code"]) == (status, code), reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert CANARY not in reply.body.decode() + str(reply.headers)
    assert {table: rows(table) for table in TABLES} == dict.fromkeys(TABLES, 0)
    return reply


async def test_what_is_not_strict_json(service: Service, rows) -> None:
    """400 E_INVALID_JSON."""
    for name, sent in NOT_JSON.items():
        try:
            await refuses(service, rows, 400, "E_INVALID_JSON", data=sent, headers=JSON)
        except AssertionError as error:
            raise AssertionError(name) from error


async def test_what_does_not_fit_the_schema(service: Service, rows) -> None:
    """422 E_VALIDATION, which names the field where it is one of ours."""
    for name, sent in DOES_NOT_FIT.items():
        try:
            reply = await refuses(service, rows, 422, "E_VALIDATION", data=sent, headers=JSON)
            assert 10 < len(reply.json["detail"]) < 200
        except AssertionError as error:
            raise AssertionError(name) from error
    reply = await service.ask("POST", "/route_task", data=DOES_NOT_FIT["consent_given 'true'"], headers=JSON)
    assert reply.json["detail"] == "consent.consent_given: Expected `bool`, got `str`."


async def test_an_unknown_task_type(service: Service, rows) -> None:
    """400 E_INVALID_TASK_TYPE, which does not repeat it."""
    for kind in (CANARY, "EMBED", "embed ", "é"):
        await refuses(service, rows, 400, "E_INVALID_TASK_TYPE", data=body(task_type=kind), headers=JSON)


async def test_another_content_type(service: Service, rows) -> None:
    """415: not forms, not guesses, not other charsets, not compressed."""
    kinds = [
        "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=canary7",
        "application/json; charset=utf-16", "application/json; charset=canary7", "application/x-ndjson", "canary7",
    ]  # fmt: skip
    for kind in kinds:
        headers = {"Content-Type": kind}
        await refuses(service, rows, 415, "E_UNSUPPORTED_MEDIA_TYPE", data=GOOD, headers=headers)
    headers = {**JSON, "Content-Encoding": "gzip"}
    await refuses(service, rows, 415, "E_UNSUPPORTED_MEDIA_TYPE", data=GOOD, headers=headers)
    sent = (
        b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
        + GOOD
    )
    assert (await service.raw(sent)).startswith(b"HTTP/1.1 415")
    accepted = {"Content-Type": "Application/JSON; Charset=UTF-8"}
    assert (await service.ask("POST", "/route_task", data=GOOD, headers=accepted)).status == 202


async def test_a_body_that_does_not_come(ledger, environ: dict[str, str], rows) -> None:
    """408 in words when its time is over, however far it came."""
    async with Service(ledger, {**environ, "ORCHESTRATOR_WEB_BODY_TIMEOUT_S": "0.3"}) as service:
        head = (
            b"POST /route_task HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        )
        answers = await asyncio.gather(service.raw(head), service.raw(head, b'{"case_id": "canary7'))
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 408"), answer
            assert b"E_REQUEST_TIMEOUT" in answer
            assert b"canary7" not in answer
        assert rows("tasks") == 0


async def test_a_nul_in_the_address(service: Service) -> None:
    """The client is told so, and the database that cannot even look for it is not blamed."""
    gets = (
        "/task/{}",
        "/task/task-1/events?a={}",
        "/audit?task_id={}",
        "/audit?case_id={}",
        "/dlq?after={}",
        "/ui/task/{}",
    )
    calls = [("GET", path) for path in gets]
    calls += [
        ("DELETE", "/task/{}"),
        ("POST", "/dlq/{}/replay"),
        ("POST", "/consents/{}/revoke"),
        ("DELETE", "/keys/{}"),
    ]
    for method, path in calls:
        reply = await service.ask(method, path.format("canary7%00"))
        assert (reply.status, reply.json["code"]) == (400, "E_BAD_REQUEST"), path


async def test_keys_that_are_used_wrongly(service: Service, rows) -> None:
    """The body and the header must agree, and a key belongs to one body."""
    for header in ("other", "", "x" * 201, '"', "a\tb"):
        await refuses(
            service,
            rows,
            422,
            "E_VALIDATION",
            data=body(idempotency_key=CANARY),
            headers={**JSON, "Idempotency-Key": header},
        )
    twice = [("Content-Type", "application/json"), ("Idempotency-Key", CANARY), ("Idempotency-Key", "other")]
    await refuses(service, rows, 422, "E_VALIDATION", data=GOOD, headers=twice)
    first = await service.route({"idempotency_key": CANARY})
    assert first.status == 202
    reply = await service.route({"idempotency_key": CANARY, "priority": "high"})
    assert (reply.status, reply.json["code"]) == (422, "E_IDEMPOTENCY_KEY_REUSED")
    assert CANARY not in reply.body.decode()
    assert (rows("tasks"), rows("idempotency_keys"), rows("audit_entries")) == (1, 1, 1)


@pytest.mark.parametrize(
    "consent",
    [{}, {"consent_given": False}, {"consent_given": True, "expires_at": "2020-01-01T00:00:00Z"}, "absent"],
    ids=["empty", "refused", "expired", "absent"],
)
async def test_raw_media_without_consent(service: Service, rows, consent: Any) -> None:
    """403 E_CONSENT_REQUIRED; all that stays is the audit entry of the refusal, which holds nothing of the payload."""
    fields = {} if consent == "absent" else {"consent": consent}
    tasks: list[dict[str, Any]] = [
        *({"payload": payload} for payload in (
            {"image_ref": CANARY}, {"a": [{"IMAGE": CANARY}]}, {"text": f"data:image/png;base64,{CANARY}"},
            {"image": None}, {"a": {"b": [f"see DATA: Video/mp4,{CANARY}"]}},
        )),
        {"meta": {"photo": CANARY}}, {"meta": {"a": [f"data:audio/wav;base64,{CANARY}"]}},
    ]  # fmt: skip
    for number, task in enumerate(tasks, 1):
        reply = await service.route({**task, "idempotency_key": "k", **fields})
        assert (reply.status, reply.json["code"]) == (403, "E_CONSENT_REQUIRED"), task
        assert CANARY not in reply.body.decode()
        assert {t: rows(t) for t in TABLES} == {**dict.fromkeys(TABLES, 0), "audit_entries": number}
    entries = await service.audit()
    assert {(e["event"], e["status"], e["reason"]) for e in entries} == {("refused", "denied", "E_CONSENT_REQUIRED")}
    assert CANARY not in str(entries)


async def test_errors_never_quote_what_was_sent(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in the path, the query, a header, a key or a value, and not in the log or the metrics either."""
    answers = []
    for method, path in [
        ("GET", f"/{CANARY}"), ("GET", f"/task/{CANARY}"), ("GET", f"/task/x?wait={CANARY}"),
        ("GET", f"/audit?since={CANARY}"),
        ("POST", f"/route_task?dry_run={CANARY}"), ("DELETE", f"/agents/{CANARY}"),
        ("POST", f"/agents/{CANARY}/heartbeat"),
        (CANARY.upper(), "/health"), ("POST", f"/register_agent?{CANARY}={CANARY}"), ("PUT", f"/task/{CANARY}"),
    ]:  # fmt: skip
        answers.append(await service.ask(method, path, headers={"X-Header": CANARY, "Cookie": CANARY}))
    for field in ("agent_id", "endpoint", "capabilities", "location", "cost", CANARY):
        registration = {
            "agent_id": "a",
            "endpoint": f"http://{CANARY}",
            "capabilities": ["embed"],
            "max_concurrency": CANARY,
        }
        answers.append(
            await service.ask("POST", "/register_agent", json={**registration, field: f"\n{CANARY} - at `$.x`"})
        )
    for answer in answers:
        assert 400 <= answer.status < 500, answer
        assert CANARY not in (answer.body.decode() + str(answer.headers)).lower(), answer
    for sent in (f"GET /{CANARY} {CANARY}\r\n\r\n", f"GET / HTTP/1.1\r\n{CANARY} {CANARY}\r\n\r\n"):
        assert CANARY.encode() not in await service.raw(sent.encode())
    assert CANARY not in (await service.ask("GET", "/metrics")).body.decode()
    out, err = capfd.readouterr()
    assert CANARY not in (out + err).lower()
