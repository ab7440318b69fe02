"""The end: what was found, as figures, a sentence, and a JSON document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossfade.events import Verdict
from crossfade.reconcile import Problem
from crossfade.stages import Side, Stage
from marketplace.calls import Account
from marketplace.demo.chronicle import Chronicle
from marketplace.demo.fleet import KILLS
from marketplace.demo.harm import Harm
from marketplace.demo.options import Options
from marketplace.demo.rows import TableComparison
from marketplace.demo.tally import ModelTally, Percentiles
from marketplace.demo.thresholds import GUARD, gates
from marketplace.demo.traffic import Figures, Process
from marketplace.journal import Finding, Loss

_FEW = 3


class Figure(NamedTuple):
    """One number that decides, with what it has to be."""

    figure: str
    value: float
    goal: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything that is known in the end. `ended` is where the models stood when the traffic ended."""

    options: Options
    harm: Harm
    models: Mapping[str, ModelTally]
    ended: Mapping[str, Stage]
    tables: Mapping[str, TableComparison]
    findings: Mapping[Side, Sequence[Finding]]
    account: Account
    traffic: Figures
    chronicle: Chronicle
    held: Mapping[str, str]
    drained: bool
    unsettled: Sequence[Problem]
    timings: Mapping[str, float]

    def lost(self, model: str | None = None) -> int:
        """Acknowledged writes that a store proves to be missing; of one model, or of all."""
        return self._found(model, frozenset(Loss) - {Loss.EXTRA_INCREMENT})

    def repeated(self) -> int:
        """Acknowledged increments that a store holds twice."""
        return self._found(None, frozenset({Loss.EXTRA_INCREMENT}))

    def _found(self, model: str | None, kinds: Iterable[Loss]) -> int:
        return sum(
            finding.writes
            for findings in self.findings.values()
            for finding in findings
            if finding.loss in kinds and model in (None, finding.model)
        )

    def figures(self) -> list[Figure]:
        """The numbers that decide."""
        models = self.models.values()
        everyone = len(self.models)
        processes = self.traffic.processes
        last = Stage.COMPLETE if self.options.fleet is None else Stage.OFF

        def none(figure: str, value: int) -> Figure:
            return Figure(figure, value, "0", value == 0)

        def all_models(figure: str, value: int) -> Figure:
            return Figure(figure, value, str(everyone), value == everyone)

        return [
            none("lost", self.lost()),
            none("different", sum(table.different for table in self.tables.values())),
            none("mismatched", sum(model.mismatched for model in models)),
            none("increments applied twice", self.repeated()),
            none("failed calls", self.account.failures.total()),
            none("models with keys left unverified", 0 if self.drained else self._unverified()),
            all_models("models with reads compared", sum(model.compared > 0 for model in models)),
            all_models("models with writes followed, Prisma first", _followed(models, Side.PRISMA)),
            all_models("models with writes followed, SQLAlchemy first", _followed(models, Side.SQLALCHEMY)),
            all_models("models that passed every stage", sum(map(_passed_every_stage, models))),
            Figure("workers killed", self.traffic.kills, str(KILLS), self.traffic.kills == KILLS),
            all_models(
                "models complete" if last is Stage.COMPLETE else "models back at off",
                sum(stage is last for stage in self.ended.values()),
            ),
            none("models walked back by the guard", len(self.harm.trips)),
        ] + (self._fleet_figures(processes) if self.options.fleet else [])

    @staticmethod
    def _fleet_figures(processes: Sequence[Process]) -> list[Figure]:
        frozen = sum(process.fate.frozen > 0 for process in processes)
        cold = sum(process.fate.cold_at is not None or process.fate.killed > 0 for process in processes)
        return [
            Figure("processes frozen", frozen, "1", frozen == 1),
            Figure("processes started in the middle", cold, "≥ 1", cold > 0),
            Figure(
                "processes without a call",
                idle := sum(process.account.reads == 0 for process in processes),
                "0",
                idle == 0,
            ),
        ]

    def _unverified(self) -> int:
        return len({problem.model for problem in self.unsettled}) or 1

    @property
    def ok(self) -> bool:
        """Whether every figure is what it has to be."""
        return all(figure.ok for figure in self.figures())


def _followed(models: Iterable[ModelTally], side: Side) -> int:
    return sum(model.followed_from[side] > 0 for model in models)


def _passed_every_stage(model: ModelTally) -> bool:
    return {move.after for move in model.moves} >= set(Stage) - {Stage.OFF}


# --- for people ------------------------------------------------------------------------------------------------


def sentence(verdicts: Verdicts) -> str:
    """Say in one sentence what came of it; what is wrong is named by model, field and count."""
    calls = verdicts.account.reads + verdicts.account.writes
    if verdicts.ok:
        rows = sum(table.rows for table in verdicts.tables.values())
        compared = sum(model.compared for model in verdicts.models.values())
        return (
            f"All {len(verdicts.models)} models moved from Prisma to SQLAlchemy{_and_back(verdicts)} under {calls:,}"
            f" calls, which never paused: none of {verdicts.traffic.acknowledged:,} acknowledged writes was lost, all"
            f" {rows:,} rows are the same in both stores, and none of {compared:,} compared reads was mismatched."
        )
    said = [*problems(verdicts), *acts(verdicts)]
    return "Not as it should be: " + "; ".join(said) + "."


def _and_back(verdicts: Verdicts) -> str:
    fleet = verdicts.options.fleet
    return (
        ""
        if fleet is None
        else f" and back, in {fleet} processes, of which one was frozen and one killed twice,"
    )


def acts(verdicts: Verdicts) -> list[str]:
    """What the guard has done about what was broken, and what callers got meanwhile."""
    harm = verdicts.harm
    if harm.defect is None and not harm.trips:
        return []
    said = []
    seconds = [trip.seconds for trip in harm.trips if trip.seconds is not None]
    if len(harm.trips) <= _FEW:
        said = [
            f"the guard walked {trip.model} back from {trip.before} to {trip.after}"
            + ("" if trip.seconds is None else f" {trip.seconds:.1f} s after its first bad answer")
            + f" ({trip.reason})"
            for trip in harm.trips
        ]
    elif seconds:
        first = harm.trips[0]
        said.append(
            f"the guard walked {len(harm.trips)} models back, {min(seconds):.1f} to {max(seconds):.1f} s after their"
            f" first bad answer ({first.model}: {first.reason})"
        )
    said += [
        f"the guard wanted {one.model} back from {one.stage}"
        + ("" if one.seconds is None else f" {one.seconds:.1f} s after its first bad answer")
        + f" ({one.reason}), which had to wait: {verdicts.models[one.model].held or 'other models stood in the way'}"
        for one in harm.detected.values()
        if harm.trip(one.model) is None
    ]
    served = harm.served.total()
    said.append(f"bad answers that callers got: {served:,} of {harm.spoilt.total():,}")
    return said


def problems(verdicts: Verdicts) -> list[str]:
    """Everything that is wrong, each with its model, field and count."""
    found: list[str] = []
    for name, model in verdicts.models.items():
        kinds = [
            f"{counts[Verdict.MISMATCHED]} {what} mismatched"
            for counts, what in ((model.reads, "compared reads"), (model.writes, "followed writes"))
            if counts[Verdict.MISMATCHED]
        ]
        if kinds:
            found.append(f"{name}: {' and '.join(kinds)} in {_counted(model.differences)}")
    for name, table in verdicts.tables.items():
        if table.different:
            found.append(f"{name}: {table.different} rows differ in {_counted(table.fields)}")
    for side, findings in verdicts.findings.items():
        for finding in findings:
            where = f"{finding.model}.{finding.field}" if finding.field else finding.model
            found.append(f"{where}: {finding.writes} × {finding.loss} in the store of {side}")
    for (model_name, call, error), count in sorted(verdicts.account.failures.items()):
        found.append(f"{model_name}: {count} × {call} failed with {error}")
    if not verdicts.drained:
        why = "; ".join(
            f"{problem.count} keys of {problem.model}: {problem.problem}" for problem in verdicts.unsettled
        )
        found.append("the follower could not be brought level in time" + (f" ({why})" if why else ""))
    found += [
        f"{name} was held: {reason}"
        for name, reason in verdicts.held.items()
        if not verdicts.models[name].mismatched and verdicts.harm.trip(name) is None
    ]
    return found or [
        f"{figure.figure}: {figure.value:g}, not {figure.goal}"
        for figure in verdicts.figures()
        if not figure.ok
    ]


def _counted(fields: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in fields.most_common(5))


# --- for programs ----------------------------------------------------------------------------------------------


def write_json(verdicts: Verdicts, path: Path) -> None:
    """Write everything as JSON."""
    path.write_text(json.dumps(document(verdicts), indent=2) + "\n", encoding="utf-8")


def document(verdicts: Verdicts) -> dict[str, Any]:
    """Everything, in plain types. Times are in milliseconds where the name says so, in seconds otherwise."""
    figures = verdicts.figures()
    account = verdicts.account
    return {
        "ok": verdicts.ok,
        "verdict": sentence(verdicts),
        **{figure.figure: figure.value for figure in figures[:3]},
        "seconds": verdicts.options.seconds,
        "rate": verdicts.options.rate,
        "seed": verdicts.options.seed,
        "break": verdicts.options.defect,
        "guard": _guard(verdicts),
        "fleet": verdicts.options.fleet,
        "thresholds": {"gates": gates(verdicts.options.seconds), "guard": dict(GUARD)},
        "reads": account.reads,
        "writes": account.writes,
        "acknowledged": verdicts.traffic.acknowledged,
        "unknown": verdicts.traffic.unknown,
        "beside": {
            "plain_sql": verdicts.traffic.script,
            "sent_on": verdicts.traffic.sent_on,
            "sessions": verdicts.traffic.sessions,
        },
        "workers": {
            "killed": verdicts.traffic.kills,
            "while_moving": verdicts.traffic.kills_while_moving,
            "in_flight": verdicts.traffic.in_flight,
        },
        "processes": [_process(process) for process in verdicts.traffic.processes],
        "captured": verdicts.chronicle.captured,
        "conflicts": verdicts.chronicle.conflicts,
        "refused": dict(account.refusals),
        "failed": [
            {"model": model, "call": call, "error": error, "count": count}
            for (model, call, error), count in sorted(account.failures.items())
        ],
        "held": dict(verdicts.held),
        "timings": {name: round(seconds, 3) for name, seconds in verdicts.timings.items()},
        "models": {name: _model(verdicts, name, model) for name, model in verdicts.models.items()},
        "relations": {
            name: {"rows": table.rows, "different": table.different}
            for name, table in verdicts.tables.items()
            if name not in verdicts.models
        },
        "problems": [] if verdicts.ok else problems(verdicts),
        "figures": [figure._asdict() for figure in figures],
    }


def _guard(verdicts: Verdicts) -> dict[str, Any]:
    harm = verdicts.harm
    seconds = [trip.seconds for trip in harm.trips if trip.seconds is not None]
    return {
        "late": harm.is_late,
        "walked_back": [
            {
                "model": trip.model,
                "from": str(trip.before),
                "to": str(trip.after),
                "seconds": _rounded(trip.seconds),
                "spoilt": trip.spoilt,
                "served": trip.served,
                "reason": trip.reason,
            }
            for trip in harm.trips
        ],
        "detected": [
            {
                "model": one.model,
                "stage": str(one.stage),
                "seconds": _rounded(one.seconds),
                "seconds_since_first_sign": _rounded(one.signal_seconds),
                "reason": one.reason,
            }
            for one in harm.detected.values()
        ],
        "seconds": _rounded(max(seconds, default=None)),
        "spoilt": harm.spoilt.total(),
        "served": harm.served.total(),
        "visible_at": {
            name: str(stage) for name in verdicts.models if (stage := visible_at(verdicts, name)) is not None
        },
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def visible_at(verdicts: Verdicts, model: str) -> Stage | None:
    """The stage at which it first showed that `model` is broken: a mismatch was confirmed, or the guard tripped."""
    first = verdicts.models[model].visible_at
    trips = [trip.before for trip in verdicts.harm.trips if trip.model == model]
    return first or (trips[0] if trips else None)


def _process(process: Process) -> dict[str, Any]:
    account, fate = process.account, process.fate
    return {
        "name": process.name,
        "pids": list(process.pids),
        "reads": account.reads,
        "writes": account.writes,
        "refused": account.refusals.total(),
        "failed": account.failures.total(),
        "killed": fate.killed,
        "in_flight": fate.in_flight,
        "frozen": round(fate.frozen, 2),
        "in_flight_when_frozen": fate.frozen_in_flight,
        "records_missed": fate.moved_meanwhile,
        "cold_at": _rounded(fate.cold_at),
    }


def _model(verdicts: Verdicts, name: str, model: ModelTally) -> dict[str, Any]:
    table = verdicts.tables.get(name, TableComparison())
    return {
        "stage": str(verdicts.ended[name]),
        "operations": model.operations,
        "compared": model.compared,
        "reads": {str(verdict): model.reads[verdict] for verdict in Verdict},
        "followed": model.followed,
        "followed_from": {str(side): model.followed_from[side] for side in Side},
        "writes": {str(verdict): model.writes[verdict] for verdict in Verdict},
        "mismatched": model.mismatched,
        "mismatched_fields": dict(model.differences),
        "reconciled": dict(model.reconciled),
        "sent_on": model.misses,
        "stale_reads": model.stale_reads,
        "dropped": dict(model.drops),
        "rows": table.rows,
        "different": table.different,
        "different_fields": dict(table.fields),
        "lost": verdicts.lost(name),
        "latency_ms": {str(side): _latency(model.percentiles(side)) for side in Side},
        "moves": [
            {
                "at": round(move.at, 3),
                "from": str(move.before),
                "to": str(move.after),
                "pause_ms": round(move.pause * 1000, 1),
            }
            for move in model.moves
        ],
        "longest_pause_ms": round(model.longest_pause * 1000, 1),
    }


def _latency(times: Percentiles | None) -> dict[str, float] | None:
    return None if times is None else {"p50": round(times.p50 * 1000, 2), "p99": round(times.p99 * 1000, 2)}
