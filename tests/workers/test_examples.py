import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.demo import fits
from orchestrator.workers import Agent
from orchestrator.workers.embedder_worker import embedder
from orchestrator.workers.image_source import ImageSource
from orchestrator.workers.image_vector import embed_image
from orchestrator.workers.journal import Journal
from orchestrator.workers.modelreasoner_worker import modelreasoner
from orchestrator.workers.testing import StubOrchestrator, running
from orchestrator.workers.vector_index import VectorIndex


@pytest.fixture
def cases(examples: Path) -> list[dict[str, Any]]:
    return json.loads((examples / "cases.json").read_text())


def test_the_cases_show_everything(cases: list[dict[str, Any]]) -> None:
    """Every task type and priority, a refusal for consent, a failure for good and one retried on another agent."""
    tasks = [case["task"] for case in cases]
    assert len(cases) >= 12
    types = {"embed", "analyze_monitor", "analyze_refer", "audit_log", "indexing"}
    assert {task["task_type"] for task in tasks} == types
    assert {task["priority"] for task in tasks} == {"urgent", "high", "normal", "low"}
    assert [task["case_id"] for task in tasks] == [f"case-{number:04d}" for number in range(1, len(cases) + 1)]
    assert max(Counter(task["idempotency_key"] for task in tasks).values()) == 1
    assert {"status": 403, "code": "E_CONSENT_REQUIRED"} in [case["expect"] for case in cases]
    assert "first agent fails, retried on another" in [case["title"] for case in cases]
    assert {case["expect"].get("state") for case in cases} == {"succeeded", "dead", None}


def test_only_images_without_consent_are_refused(cases: list[dict[str, Any]]) -> None:
    """A case is expected to be refused exactly when it has an image and no consent."""
    for case in cases:
        without = case["task"]["consent"]["consent_given"] is not True and "image_ref" in case["task"]["payload"]
        assert without is (case["expect"]["status"] == 403), case["title"]


@pytest.mark.anyio
async def test_the_agents_do_as_the_cases_expect(
    stub: StubOrchestrator, cases: list[dict[str, Any]], examples: Path, tmp_path: Path
) -> None:
    """Each case that reaches an agent succeeds there, or fails for good, as it says."""
    journal = Journal(tmp_path / "journal.jsonl")

    async def outcomes(agent: Agent, types: set[str]) -> None:
        async with running(agent, stub) as served:
            stub.calls.clear()
            for case in cases:
                task = case["task"]
                if task["task_type"] in types and case["expect"]["status"] != 403:
                    _, answer = await served.call(task["task_type"], task["payload"], task_id=task["case_id"])
                    assert answer["success"] is (case["expect"]["state"] == "succeeded"), (case["title"], answer)
                    assert answer["success"] or answer["error"]["retryable"] is False
                    assert fits(case["expect"].get("result", {}), answer.get("output", {})), (case["title"], answer)

    await outcomes(embedder(ImageSource(examples), VectorIndex()), {"embed", "indexing"})
    await outcomes(modelreasoner(journal), {"analyze_monitor", "analyze_refer", "audit_log"})
    journal.close()


def test_the_indexed_vectors(cases: list[dict[str, Any]], examples: Path) -> None:
    """The indexed vectors are those of the images they are named for."""
    images = examples / "images"
    for name, file in [("retina", "retina.png"), ("retina-half", "retina-half.jpg")]:
        (given,) = [case["task"]["payload"]["vector"] for case in cases if case["task"]["payload"].get("key") == name]
        made = embed_image((images / file).read_bytes()).vector
        assert np.dot(given, made) > 0.999


def test_the_images_are_drawn_by_their_script(examples: Path, tmp_path: Path) -> None:
    """Drawn anew they are the same pictures, and each is a small file."""
    subprocess.run([sys.executable, "-W", "error", examples / "make_images.py", tmp_path], check=True, timeout=60)
    names = sorted(path.name for path in (examples / "images").iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        committed = (examples / "images" / name).read_bytes()
        assert len(committed) < 60_000
        assert np.dot(embed_image(committed).vector, embed_image((tmp_path / name).read_bytes()).vector) > 0.999
