"""What is printed, in this program or in one around it, shows no payload, no result, no agent's words and no secret."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import get_type_hints

import pytest
from msgspec import Struct

import orchestrator
from orchestrator.domain.discretion import HIDDEN
from orchestrator.domain.task import TaskRequest
from orchestrator.outbound.ports import Call, Succeeded
from orchestrator.storage.commands import Key, Result
from orchestrator.testing import a_request

BESIDE = ("bench", "build", "deploy", "dist", "docs", "examples", "scripts", "tests", "var", "workers", "client")
"""What does not ship; and agents and clients, who handle what is their own."""


def structs() -> Iterator[type[Struct]]:
    """All that the orchestrator has."""
    for module in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
        if module.name.split(".")[1] not in BESIDE and not module.name.startswith("orchestrator.web.openapi"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, Struct) and value.__module__ == module.name:
                    yield value


def telling(struct: type[Struct]) -> set[str]:
    """Its fields that must not be shown: by their names, but for those that only say whether there is one."""
    named = (HIDDEN - {"key"}) & set(struct.__struct_fields__)
    return {name for name in named if get_type_hints(struct)[name] is not bool}


def test_no_struct_is_forgotten() -> None:
    """Each that has such a field hides it, or masks it in a way of its own, as settings do."""
    found = {struct for struct in structs() if telling(struct)}
    assert len(found) > 10
    plain = [struct for struct in found if struct.__repr__ is Struct.__repr__]
    assert [f"{struct.__module__}.{struct.__name__}" for struct in plain] == []


CANARY = "canary"
TASK = a_request(payload={CANARY: CANARY}, meta={CANARY: CANARY}, idempotency_key=CANARY)


@pytest.mark.parametrize(
    "value",
    [
        TASK,
        Key("anonymous", CANARY, CANARY),
        Succeeded({CANARY: CANARY}),
        Call("http://127.0.0.1:1", "task-1", "case-1", "embed", {CANARY: 1}, {CANARY: 1}, 1, 0.0, ""),
        {"deep": [Result(1, "agent-1", CANARY, None, 0.0)]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_shown(value: object) -> None:
    """All the rest, by the name of its field; also where it stands in something else."""
    for text in (repr(value), str(value), f"{value}", f"{ValueError(value)}"):
        assert CANARY not in text
        assert "***" in text
    assert "case_id='case-1'" in repr(TASK) or not isinstance(value, TaskRequest)
