"""The end as people read it: two tables, a few lines, and a sentence."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.events import Verdict
from crossfade.stages import Side
from marketplace.demo.tally import Percentiles
from marketplace.demo.verdict import Verdicts, sentence


def show(verdicts: Verdicts, console: Console) -> None:
    """Print both tables, the figures that are not as they should be, and the sentence."""
    console.print(_traffic(verdicts))
    console.print()
    console.print(_outcome(verdicts))
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
        f"worker killed {traffic.kills} ×{conducting}: {traffic.in_flight} writes in flight,"
        f" {verdicts.lost()} lost"
    )
    return [calls, beside, moves, keys, worker]


def _table(title: str, *columns: str) -> Table:
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, title=title, title_justify="left", title_style="bold"
    )
    table.add_column("model", no_wrap=True)
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
            str(model.stage),
            str(len(model.moves)),
            f"{model.longest_pause * 1000:.1f}",
            f"{compared.rows:,}",
            _bad(compared.different),
            _bad(verdicts.lost(name)),
            _ms(model.percentiles(Side.PRISMA)),
            _ms(model.percentiles(Side.SQLALCHEMY)),
        )
    return table


def _bad(count: int) -> Text:
    return Text(f"{count:,}", style="bold red" if count else "")


def _ms(times: Percentiles | None) -> str:
    return "–" if times is None else f"{times.p50 * 1000:.1f}/{times.p99 * 1000:.1f}"
