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
from marketplace.demo.options import Options
from marketplace.demo.rows import TableComparison
from marketplace.demo.tally import ModelTally, Percentiles
from marketplace.demo.traffic import Figures
from marketplace.demo.workers import KILLS
from marketplace.journal import Finding, Loss


class Figure(NamedTuple):
    """One number that decides, with what it has to be."""

    figure: str
    value: float
    goal: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything that is known in the end."""

    options: Options
    models: Mapping[str, ModelTally]
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
            all_models("models complete", sum(model.stage is Stage.COMPLETE for model in models)),
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
            f"All {len(verdicts.models)} models moved from Prisma to SQLAlchemy under {calls:,} calls, which never"
            f" paused: none of {verdicts.traffic.acknowledged:,} acknowledged writes was lost, all {rows:,} rows are"
            f" the same in both stores, and none of {compared:,} compared reads was mismatched."
        )
    return "Not as it should be: " + "; ".join(problems(verdicts)) + "."


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
        if not verdicts.models[name].mismatched
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


def _model(verdicts: Verdicts, name: str, model: ModelTally) -> dict[str, Any]:
    table = verdicts.tables[name]
    return {
        "stage": str(model.stage),
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
