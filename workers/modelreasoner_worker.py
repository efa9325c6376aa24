"""Reference agent: a child's growth against a reference. `python -m orchestrator.workers.modelreasoner_worker`

- `analyze_light` (analyze_monitor): the latest measurement of each kind, and whether to monitor or refer.
- `analyze_heavy` (analyze_refer): every measurement, the change of SDS per year, and the reasons.
- `audit` (audit_log): payload {"note"} → a numbered line in the journal.

Growth payload: {"sex": "male"|"female", "birth_date": "YYYY-MM-DD", "gestation_weeks"?: 40,
"reference"?: "uk-who"|"who", "measurements": [{"date", "kind": "height"|"weight"|"ofc"|"bmi", "value"}, ...]}, in cm,
kg and kg/m². The thresholds, with their sources, are in `growth_rules`. A demonstration, not a medical device.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.workers.agent import Agent
from orchestrator.workers.growth_case import KINDS, GrowthCase, read_case
from orchestrator.workers.growth_reference import MODEL_VERSION, Placed, place
from orchestrator.workers.growth_rules import Reason, Trend, judge, trend, worst
from orchestrator.workers.journal import Journal
from orchestrator.workers.options import Options, agent_parser
from orchestrator.workers.task import Permanent, Task


def modelreasoner(journal: Journal, *, agent_id: str = "modelreasoner-1") -> Agent:
    """The agent, writing notes into `journal`."""
    agent = Agent(agent_id, location="edge-local", model_version=MODEL_VERSION)

    @agent.handles("analyze_light")
    def light(task: Task) -> dict[str, Any]:
        by_kind = _place_all(read_case(task.payload))
        trends = [trend(placed) for placed in by_kind.values()]
        latest = {one.kind: _figures(one.latest) for one in trends}
        return {"advice": worst(_reasons(trends)), "latest": latest}

    @agent.handles("analyze_heavy")
    def heavy(task: Task) -> dict[str, Any]:
        case = read_case(task.payload)
        by_kind = _place_all(case)
        trends = [trend(placed) for placed in by_kind.values()]
        reasons = _reasons(trends)
        return {
            "advice": worst(reasons),
            "reasons": [{"level": one.level, "code": one.code, "text": one.text} for one in reasons],
            "reference": case.reference,
            "trends": {one.kind: _change(one) for one in trends},
            "measurements": {kind: [_figures(one) for one in placed] for kind, placed in by_kind.items()},
        }

    @agent.handles("audit")
    def audit(task: Task) -> dict[str, Any]:
        note = task.payload.get("note")
        if not isinstance(note, str) or not note.strip():
            raise Permanent("note: a text is needed")
        seq, written = journal.write(task.task_id, task.case_id, note)
        return {"seq": seq, "written": written}

    del light, heavy, audit  # registered through the decorators above
    return agent


def _place_all(case: GrowthCase) -> dict[str, list[Placed]]:
    placed = [place(case, measurement) for measurement in case.measurements]
    by_kind = {kind: [one for one in placed if one.measurement.kind == kind] for kind in KINDS}
    return {kind: found for kind, found in by_kind.items() if found}


def _reasons(trends: Sequence[Trend]) -> list[Reason]:
    return [reason for one in trends for reason in judge(one)]


def _figures(one: Placed) -> dict[str, Any]:
    place = {"age": round(one.age, 3), "sds": _sds(one.sds), "centile": round(one.centile, 1)}
    return {"date": one.measurement.date.isoformat(), "value": one.measurement.value, **place}


def _change(one: Trend) -> dict[str, Any]:
    rate = None if one.per_year is None else _sds(one.per_year)
    return {"fall": _sds(one.fall), "rise": _sds(one.rise), "sds_per_year": rate}


def _sds(value: float) -> float:
    return round(value, 3)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = agent_parser("Analyses growth and keeps a journal.")
    journal = Path("modelreasoner-journal.jsonl")
    parser.add_argument("--journal", type=Path, default=journal, metavar="FILE", help="where notes go (%(default)s)")
    args = parser.parse_args(argv)
    modelreasoner(Journal(args.journal)).run(Options.of(args))


if __name__ == "__main__":
    main()
