"""`crossfade plan`: what to move together, in which order, what is in the way, and how long it may take."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption
from crossfade.errors import StageMoveError, StoreUnavailableError
from crossfade.stages import PLANS, Side, Stage, Topology, is_forward, next_step

if TYPE_CHECKING:
    from datetime import datetime

    from crossfade.cli.following import Standpoint
    from crossfade.flags.flag import Flag
    from crossfade.planner import Planner, Refusal
    from crossfade.planning import Advice, Copying, Proof
    from crossfade.schema import Schema
    from crossfade.store import Store
    from crossfade.store.record import Record
    from crossfade.store.signals import Kind, Spanned

_WIDTH_OF_A_FILE = 160


def plan(
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Print cohorts, order, blockers and an estimate, from the schema's relations and from the operations seen.

    Where CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN name the stores, from what stands there; without them from the
    schema and the flag files alone. Changes nothing.
    """
    from crossfade.cli.following import followed_stores, load_models
    from crossfade.flags.files import load_flags
    from crossfade.planner import Planner
    from crossfade.settings import Settings

    models = load_models(schema, flags)
    found, problems = load_flags(flags, frozenset(models.models))
    planner = Planner(models, Settings.from_environment().topology)
    stores = followed_stores(models)
    seen = _Seen() if stores is None else asyncio.run(_look(models, stores, found))
    drawn = _Plan.of(models, found, planner, seen)
    if json:
        typer.echo(json_format.dumps(drawn.as_json(), indent=2, ensure_ascii=False))
    else:
        drawn.tell()
    if problems:
        raise ExceptionGroup("flags", problems)


@dataclass(slots=True)
class _Seen:
    """What the stores say; without stores, nothing."""

    records: Mapping[str, Record] | None = None
    now: datetime | None = None
    asked: Mapping[str, Stage] = field(default_factory=dict)
    spans: Sequence[Spanned] = ()
    kinds: Mapping[str, list[Kind]] = field(default_factory=dict)
    shut: Mapping[str, list[str]] = field(default_factory=dict)
    copying: Mapping[str, Copying] = field(default_factory=dict)
    problem: str = ""


async def _look(schema: Schema, stores: Mapping[Side, Store], flags: Mapping[str, Flag]) -> _Seen:
    from crossfade.cli.following import standing_on
    from crossfade.gates import AllGates
    from crossfade.store.leadership import Leadership
    from crossfade.store.requests import read_requests
    from crossfade.store.signals import read_kinds, read_spanned

    legacy = stores[Side.PRISMA]
    async with standing_on(schema, stores) as at:
        seen = _Seen({name: at.view.record(name) for name in schema.models})
        assert seen.records is not None
        entered = {model: record.entered for model, record in seen.records.items()}
        async with legacy.transaction() as connection:
            requests = await read_requests(connection, legacy)
            seen.spans = await read_spanned(connection, legacy)
            seen.now = await connection.fetchval("SELECT clock_timestamp()")
            kinds: dict[str, list[Kind]] = {}
            for kind in await read_kinds(connection, legacy, entered):
                kinds.setdefault(kind.model, []).append(kind)
        seen.kinds = kinds
        if await Leadership(legacy).is_taken():
            seen.asked = {model: request.stage for model, request in requests.items()}
        try:
            gates = await AllGates(stores, schema, flags.get).read(list(schema.models), _wanted(seen, flags))
            seen.shut = {
                model: [gate.why for gate in read if not gate.holds] for model, read in gates.items()
            }
            seen.copying = await _copying(at)
        except StoreUnavailableError as error:
            seen.problem = str(error)
    return seen


def _wanted(seen: _Seen, flags: Mapping[str, Flag]) -> dict[str, Stage]:
    return {model: flag.stage for model, flag in flags.items()} | dict(seen.asked)


async def _copying(at: Standpoint) -> dict[str, Copying]:
    """What is left to copy of each model, at the rate of all copying that was seen so far."""
    from crossfade.backfill import Backfill
    from crossfade.planning import copying

    if len(at.stores) == 1:
        return {}
    backfill = Backfill(at.stores, at.reconciler)
    planned = await backfill.plan()
    progress = await backfill.progress()
    read = {one.model: one.rows_read for one in progress}
    async with at.stores[Side.SQLALCHEMY].transaction() as connection:
        now = await connection.fetchval("SELECT clock_timestamp()")
    seconds = sum(((one.finished or now) - one.started).total_seconds() for one in progress if one.rows_read)
    rate = sum(read.values()) / seconds if seconds else None
    left: dict[str, int] = {}
    for table in planned:
        rest = 0 if table.state == "done" else max(0, table.estimated - read.get(table.model, 0))
        left[table.owner] = left.get(table.owner, 0) + rest
    return {model: copying(rows, rate) for model, rows in left.items()}


@dataclass(frozen=True, slots=True)
class _Row:
    """One model in its place."""

    model: str
    stage: Stage | None
    asked: Stage
    step: Stage | None
    after: tuple[str, ...]
    blockers: tuple[str, ...]
    copying: Copying | None
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """All of it."""

    cohorts: Mapping[str, tuple[str, ...]]
    advice: Sequence[Advice]
    read_together: Sequence[Spanned]
    places: Sequence[tuple[str, ...]]
    rows: Mapping[str, _Row]
    refusals: Sequence[Refusal]
    problem: str

    @classmethod
    def of(cls, schema: Schema, flags: Mapping[str, Flag], planner: Planner, seen: _Seen) -> _Plan:
        """Put together what is known."""
        from crossfade.planning import advise, declared_cohorts, in_order

        cohorts = {model: flag.cohort for model, flag in flags.items()}
        wanted = _wanted(seen, flags)
        return cls(
            cohorts=declared_cohorts(cohorts),
            advice=advise(seen.spans, cohorts),
            read_together=[span for span in seen.spans if not span.is_write and len(span.models) > 1],
            places=in_order(schema, cohorts),
            rows={model: _row(model, schema, flags[model], planner, seen, wanted) for model in schema.models},
            refusals=planner.check_requests(wanted, cohorts),
            problem=seen.problem,
        )

    def tell(self) -> None:
        """Write it for a person."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        self._tell_cohorts()
        table = Table(title="in this order", title_justify="left")
        table.add_column("", justify="right")
        for title in ("model", "stands at", "asked for", "after"):
            table.add_column(title, no_wrap=title in ("model", "stands at", "asked for"))
        for title in ("to copy", "to prove", "in the way of the next step"):
            table.add_column(title)
        for number, place in enumerate(self.places, start=1):
            for model in place:
                row = self.rows[model]
                cells = (
                    model,
                    "–" if row.stage is None else str(row.stage),
                    str(row.asked),
                    ", ".join(row.after) or "–",
                    _told_copying(row.copying),
                    "\n".join(_told_proof(proof) for proof in row.proofs) or "–",
                    "\n".join(f"to {row.step}: {blocker}" for blocker in row.blockers) or "–",
                )
                table.add_row(f"{number}" if model == place[0] else "", *(escape(cell) for cell in cells))
        Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
        for refusal in self.refusals:
            typer.echo(f"cannot be met: {refusal.text}")
        if self.problem:
            typer.echo(f"gates and copies are left out: {self.problem}")

    def _tell_cohorts(self) -> None:
        if not self.cohorts and not self.advice:
            typer.echo("cohorts: none is declared, and no write was seen that spans models")
        for name, models in self.cohorts.items():
            typer.echo(f"cohort {name}: {', '.join(models)}")
        for one in self.advice:
            typer.echo(
                f"cohort to declare: {', '.join(one.models)}: single writes span them ({one.times:,} seen, the last at"
                f" {one.seen:%Y-%m-%d %H:%M} UTC), and would be refused while they stand on different sides"
            )
        for span in self.read_together:
            typer.echo(
                f"read together: {', '.join(span.models)} ({span.times:,} times): answered by SQLAlchemy as soon as all"
                " of them are live"
            )

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "cohorts": {name: list(models) for name, models in self.cohorts.items()},
            "advised_cohorts": [
                {"models": list(one.models), "writes": one.times, "last": one.seen.isoformat()}
                for one in self.advice
            ],
            "read_together": [{"models": list(one.models), "times": one.times} for one in self.read_together],
            "order": [list(place) for place in self.places],
            "models": [_as_json(self.rows[model]) for place in self.places for model in place],
            "refused": [{"models": list(one.models), "why": one.text} for one in self.refusals],
            "problem": self.problem or None,
        }


def _row(
    model: str, schema: Schema, flag: Flag, planner: Planner, seen: _Seen, wanted: Mapping[str, Stage]
) -> _Row:
    from crossfade.planning import proofs
    from crossfade.thresholds import GateThresholds

    record = None if seen.records is None else seen.records[model]
    stage = Stage.OFF if record is None else record.stage
    asked = wanted.get(model, flag.stage)
    step = next_step(stage, asked) or next_step(stage, list(Stage)[-1])
    proven = []
    if record is not None and seen.now is not None and _compares_yet(stage):
        seconds = (seen.now - record.since).total_seconds()
        proven = proofs(seen.kinds.get(model, []), GateThresholds.of(flag.gates), seconds)
    return _Row(
        model=model,
        stage=None if record is None else stage,
        asked=asked,
        step=step,
        after=tuple(sorted(schema.parents(model))),
        blockers=tuple(_blockers(model, step, planner, seen)),
        copying=seen.copying.get(model),
        proofs=tuple(proven),
    )


def _blockers(model: str, step: Stage | None, planner: Planner, seen: _Seen) -> list[str]:
    from crossfade.moving import why_paused

    if step is None or seen.records is None:
        return []
    record = seen.records[model]
    found = []
    if record.final:
        return ["it was made final"]
    if record.paused and is_forward(record.stage, step):
        found.append(why_paused(record))
    try:
        planner.check_move({name: one.stage for name, one in seen.records.items()}, model, step)
    except StageMoveError as refusal:
        found.append(refusal.reason)
    return found + list(seen.shut.get(model, ()))


def _compares_yet(stage: Stage) -> bool:
    """Whether answers are compared at `stage` or at a later one."""
    plans = PLANS[Topology.SEPARATE]
    return any(plans[later].shadow is not None for later in Stage if not is_forward(later, stage))


def _told_copying(copying: Copying | None) -> str:
    from crossfade.cli.progress import span

    if copying is None or not copying.rows:
        return "–"
    time = "" if copying.seconds is None else f", {span(max(1.0, copying.seconds))}"
    return f"about {copying.rows:,} rows{time}"


def _told_proof(proof: Proof) -> str:
    from crossfade.cli.progress import span

    kind = proof.action or "each kind"
    if proof.keys is None:
        return f"{kind}: no number of keys would do"
    time = "" if proof.seconds is None else f", {span(max(1.0, proof.seconds))}"
    return f"{kind}: {proof.keys:,} keys{time}"


def _as_json(row: _Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "stage": None if row.stage is None else str(row.stage),
        "asked_for": str(row.asked),
        "next_step": None if row.step is None else str(row.step),
        "after": list(row.after),
        "blockers": list(row.blockers),
        "to_copy": None
        if row.copying is None
        else {"rows": row.copying.rows, "seconds": row.copying.seconds},
        "to_prove": [
            {"action": proof.action or None, "keys": proof.keys, "seconds": proof.seconds}
            for proof in row.proofs
        ],
    }
