"""The end as people read it: two tables, a few lines, and a sentence."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.events import Verdict
from crossfade.stages import Side
from marketplace.demo.breaks import BREAKS
from marketplace.demo.tally import Percentiles
from marketplace.demo.thresholds import notice
from marketplace.demo.verdict import Verdicts, sentence, visible_at


def show(verdicts: Verdicts, console: Console) -> None:
    """Print both tables, the figures that are not as they should be, and the sentence."""
    console.print(_traffic(verdicts))
    console.print()
    console.print(_outcome(verdicts))
    console.print()
    if verdicts.options.fleet is not None:
        console.print(_processes(verdicts))
        console.print()
    for line in _lines(verdicts):
        console.print(line)
    style = "bold green" if verdicts.ok else "bold red"
    console.print(Text(("✓ " if verdicts.ok else "✗ ") + sentence(verdicts), style=style))


def _lines(verdicts: Verdicts) -> list[str]:
    """What is not of one model."""
    account, traffic, chronicle = verdicts.account, verdicts.traffic, verdicts.chronicle
    models = verdicts.models.values()
    longest = max((model.longest_pause for model in models), default=0.0)
    calls = (
        f"calls: {account.reads:,} reads and {account.writes:,} writes; refused as they should be:"
        f" {account.refusals.total():,}; failed: {account.failures.total():,}"
    )
    beside = (
        f"beside the repository: {traffic.script:,} writes by plain SQL, {traffic.sent_on} of them sent on by a fence,"
        f" and {traffic.sessions:,} by sessions"
    )
    moves = (
        f"moves: {sum(len(model.moves) for model in models)}, longest pause {longest * 1000:.0f} ms;"
        f" writes that met a fence and went to the other store: {sum(model.misses for model in models):,}"
    )
    keys = (
        f"capture: {chronicle.captured:,} changes captured, {sum(model.verified for model in models):,} keys verified,"
        f" {sum(model.repaired for model in models):,} rows repaired; conflicts: {chronicle.conflicts}"
    )
    conducting = (
        f" ({traffic.kills_while_moving} × while it conducted a move)" if traffic.kills_while_moving else ""
    )
    worker = (
        f"workers killed {traffic.kills} ×{conducting}: {traffic.in_flight} writes in flight,"
        f" {verdicts.lost()} lost"
    )
    return [calls, beside, moves, keys, worker, *_of_the_guard(verdicts), notice(verdicts.options.seconds)]


def _of_the_guard(verdicts: Verdicts) -> list[str]:
    harm = verdicts.harm
    if harm.defect is None:
        return []
    begins = "while live" if harm.is_late else "from the start"
    shows = ", ".join(
        f"{name} at {stage}" for name in verdicts.models if (stage := visible_at(verdicts, name)) is not None
    )
    return [f"broken {begins}: {BREAKS[harm.defect].description}; it showed first in: {shows or 'no model'}"]


def _table(title: str, *columns: str) -> Table:
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, title=title, title_justify="left", title_style="bold"
    )
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _traffic(verdicts: Verdicts) -> Table:
    table = _table(
        "Compared",
        "reads", "matched", "in flight", "mismatched", "ignored", "error", "skipped", "followed", "verified",
        "repaired",
    )  # fmt: skip
    for name, model in verdicts.models.items():
        reads = model.reads
        table.add_row(
            name,
            f"{model.compared:,}",
            f"{reads[Verdict.MATCHED]:,}",
            f"{reads[Verdict.IN_FLIGHT]:,}",
            _bad(model.mismatched),
            *(f"{reads[verdict]:,}" for verdict in (Verdict.IGNORED, Verdict.ERROR, Verdict.SKIPPED)),
            f"{model.followed:,}",
            f"{model.verified:,}",
            f"{model.repaired:,}",
        )
    return table


def _outcome(verdicts: Verdicts) -> Table:
    table = _table(
        "Moved (p50/p99 in ms)",
        "stage", "moves", "pause ms", "rows", "different", "lost", "prisma", "sqlalchemy",
    )  # fmt: skip
    for name, compared in verdicts.tables.items():
        model = verdicts.models.get(name)
        if model is None:
            table.add_row(name, "", "", "", f"{compared.rows:,}", _bad(compared.different), "", "", "")
            continue
        table.add_row(
            name,
            str(verdicts.ended[name]),
            str(len(model.moves)),
            f"{model.longest_pause * 1000:.1f}",
            f"{compared.rows:,}",
            _bad(compared.different),
            _bad(verdicts.lost(name)),
            _ms(model.percentiles(Side.PRISMA)),
            _ms(model.percentiles(Side.SQLALCHEMY)),
        )
    return table


def _processes(verdicts: Verdicts) -> Table:
    table = _table(
        "Processes",
        "reads",
        "writes",
        "refused",
        "failed",
        "killed",
        "in flight",
        "frozen s",
        "missed",
        "cold at",
    )
    for process in verdicts.traffic.processes:
        account, fate = process.account, process.fate
        table.add_row(
            process.name,
            f"{account.reads:,}",
            f"{account.writes:,}",
            f"{account.refusals.total():,}",
            _bad(account.failures.total()),
            str(fate.killed or ""),
            str(fate.in_flight + fate.frozen_in_flight or ""),
            f"{fate.frozen:.1f}" if fate.frozen else "",
            str(fate.moved_meanwhile or ""),
            "" if fate.cold_at is None else f"{fate.cold_at:.1f} s",
        )
    return table


def _bad(count: int) -> Text:
    return Text(f"{count:,}", style="bold red" if count else "")


def _ms(times: Percentiles | None) -> str:
    return "–" if times is None else f"{times.p50 * 1000:.1f}/{times.p99 * 1000:.1f}"
