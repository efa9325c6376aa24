"""`orchestrator demo`: the real thing on this machine, with the reference agents and the sample cases."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import anyio
import msgspec
from anyio.abc import Process
from rich.console import Console
from rich.table import Table

from orchestrator.client import Answer, Client
from orchestrator.credentials import tls
from orchestrator.embedding import Orchestrator

AGENTS_WITHIN_S = 60.0
CASE_WITHIN_S = 45.0
STOP_WITHIN_S = 10.0
WIDTH = 132


class Case(msgspec.Struct, frozen=True):
    """A sample case: the task to send, once the case `after` has ended, and what should come of it."""

    title: str
    task: dict[str, Any]
    expect: dict[str, Any]
    after: str | None = None

    @property
    def case_id(self) -> str:
        return self.task["case_id"]


class Outcome(msgspec.Struct, frozen=True):
    """What came of a case. `seconds` is from sending it to its final state."""

    case: Case
    status: int
    state: str
    agent: str
    why: str
    seconds: float
    result: str
    as_expected: bool


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: an error like others, where rich would leave the event loop by SystemExit."""
        raise BrokenPipeError


def examples() -> Path:
    """The folder of the sample cases, in the checkout or in the installed package."""
    return Path(str(resources.files("orchestrator").joinpath("examples")))


def cases() -> list[Case]:
    """The sample cases."""
    return msgspec.json.decode(examples().joinpath("cases.json").read_bytes(), type=list[Case])


def agents(folder: Path) -> dict[str, list[str]]:
    """The agents of the demo, and the command line of each."""
    python, root = sys.executable, str(examples())
    return {
        "embedder-1": [python, "-m", "orchestrator.workers.embedder_worker", "--image-root", root],
        "modelreasoner-1": [
            python, "-m", "orchestrator.workers.modelreasoner_worker",
            "--location", "clinic-server", "--journal", str(folder / "journal.jsonl"),
        ],
        "flaky-1": [python, str(Path(root) / "flaky_agent.py")],
    }  # fmt: skip


async def show(orchestrator: Orchestrator, url: str, folder: Path, *, once: bool) -> bool:
    """Starts the agents, sends the cases, prints what came of them; then waits, unless `once`.

    True if all came out as expected.
    """
    console = _Terminal(highlight=False)
    if console.width < WIDTH:
        # Better that a narrow terminal breaks lines than that the table breaks words.
        console = _Terminal(width=WIDTH, highlight=False)
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        for name, command in agents(folder).items():
            stack.push_async_callback(
                _stop, await _start([*command, "--until-eof", "--orchestrator", url], folder / f"{name}.log")
            )
        console.print(f"Orchestrator at [bold]{url}[/], starting {len(agents(folder))} agents …")
        await _wait_for_agents(orchestrator, list(agents(folder)))
        client = await stack.enter_async_context(Client(url, tls=tls(os.environ)))
        outcomes = await _send_all(client, cases(), orchestrator.environment.token(4))
        console.print(_table(outcomes))
        good = sum(outcome.as_expected for outcome in outcomes)
        console.print(f"{good} of {len(outcomes)} cases came out as expected.")
        if not once:
            _say_where_to_look(console, url, folder)
            await anyio.sleep_forever()
        return good == len(outcomes)


async def _wait_for_agents(orchestrator: Orchestrator, names: Sequence[str]) -> None:
    """Until all were heard of: those of an earlier run are in the database too, with endpoints of then."""
    gateway = orchestrator.gateway
    with anyio.fail_after(AGENTS_WITHIN_S):
        while not {name for name, view in gateway.agents().items() if view.health.last_seen} >= set(names):
            await gateway.agents_changed()


async def _send_all(client: Client, known: Sequence[Case], run: str) -> list[Outcome]:
    """All at once, but for those that come after another. `run` is part of their keys: an earlier run's are others."""
    outcomes: dict[str, Outcome] = {}
    ended = {case.case_id: anyio.Event() for case in known}

    async def send(case: Case) -> None:
        if case.after is not None:
            await ended[case.after].wait()
        key = f"{case.task['idempotency_key']}-{run}"
        outcomes[case.case_id] = await _send(client, case, {**case.task, "idempotency_key": key})
        ended[case.case_id].set()

    async with anyio.create_task_group() as group:
        for case in known:
            group.start_soon(send, case)
    return [outcomes[case.case_id] for case in known]


async def _send(client: Client, case: Case, task: dict[str, Any]) -> Outcome:
    began = perf_counter()
    accepted = await client.submit(task)
    if not accepted.ok:
        return _refused(case, accepted, perf_counter() - began)
    task_id = cast("str", accepted.body["task_id"])
    done = await client.task(task_id, CASE_WITHIN_S)
    seconds = perf_counter() - began
    entries = await client.audit(task_id)
    state = str(done.body.get("status"))
    found = {"status": accepted.status, "state": state, "result": done.body.get("result")}
    return Outcome(
        case=case,
        status=accepted.status,
        state=state,
        agent=str(done.body.get("agent_id") or "–"),
        why=explained(entries),
        seconds=seconds,
        result=_brief(done.body.get("result", done.body.get("reason"))),
        as_expected=fits(case.expect, found),
    )


def _refused(case: Case, answer: Answer, seconds: float) -> Outcome:
    code = str(answer.body.get("code"))
    return Outcome(
        case=case,
        status=answer.status,
        state="refused",
        agent="–",
        why=str(answer.body.get("title")),
        seconds=seconds,
        result=code,
        as_expected=fits(case.expect, {"status": answer.status, "code": code}),
    )


def fits(expected: Any, found: Any) -> bool:
    """Whether `found`, a JSON value, says all that `expected` does; its objects and lists may say more."""
    match expected:
        case dict():
            wanted = cast("dict[str, Any]", expected)
            return isinstance(found, dict) and all(name in found and fits(wanted[name], found[name]) for name in wanted)
        case list():
            parts, others = cast("list[Any]", expected), cast("list[Any]", found)
            return isinstance(found, list) and len(others) >= len(parts) and all(map(fits, parts, others))
        case _:
            return expected == found


def explained(entries: Sequence[dict[str, Any]]) -> str:
    """Why a task went where it went, from its audit entries: each attempt's agent and what spoke for it."""
    told: list[str] = []
    for entry in entries:
        decision = entry.get("router_decision")
        if entry["event"] in ("leased", "moved", "accepted") and entry["status"] == "leased" and decision:
            told.append(_choice(str(entry["agent_id"]), decision["candidates"]))
        elif entry["event"] in ("retry_scheduled", "dead"):
            told.append(f"failed: {entry['reason']}")
    return "; ".join(told) or "–"


def _choice(agent_id: str, candidates: Sequence[dict[str, Any]]) -> str:
    chosen = next(candidate for candidate in candidates if candidate["agent_id"] == agent_id)
    others = [c for c in candidates if c is not chosen and c.get("excluded") != "capability"]
    reasons = ["at the edge" if chosen.get("edge") else "not at the edge"]
    reasons += [f"{c['agent_id']} {_why_not(c)}" for c in others] or ["the only one able"]
    return f"{agent_id}: {', '.join(reasons)}"


def _why_not(candidate: dict[str, Any]) -> str:
    if candidate.get("excluded"):
        return f"left out ({candidate['excluded']})"
    return "failed before" if candidate.get("avoided") else "ranks lower"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Sample cases", show_lines=True)
    for name in ("case", "what", "decision", "agent", "why", "status", "latency", "result"):
        table.add_column(name, no_wrap=name == "latency")
    for outcome in outcomes:
        task = outcome.case.task
        table.add_row(
            f"{task['case_id']} {task['task_type']} {task['priority']}",
            outcome.case.title,
            _decision(outcome.status),
            outcome.agent,
            outcome.why,
            f"[green]{outcome.state} ✓[/]" if outcome.as_expected else f"[red]{outcome.state} ✗ unexpected[/]",
            f"{outcome.seconds * 1000:.0f} ms",
            outcome.result,
        )
    return table


def _decision(status: int) -> str:
    return {200: "sync", 202: "queued"}.get(status, "refused")


def _say_where_to_look(console: Console, url: str, folder: Path) -> None:
    console.print(
        f"\nServing on {url}; Ctrl-C ends it.\n"
        f"In a browser, live: {url}/\nFrom a terminal:\n"
        f"  curl {url}/agents\n  curl {url}/audit?limit=5\n  curl {url}/dlq\n  curl {url}/metrics\n"
        f"Database and the agents' logs: {folder}/"
    )


async def _start(command: Sequence[str], log: Path) -> Process:
    async with await anyio.open_file(log, "ab") as file:
        output = file.wrapped
        # In a session of its own: Ctrl-C is for us. We end the agent, and it takes a second signal for impatience.
        # The pipe is for when we are killed: it ends with us, and the agent with it.
        return await anyio.open_process(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )


async def _stop(process: Process) -> None:
    """Ends an agent that we started: it drains, and is killed if it does not end."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(STOP_WITHIN_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
