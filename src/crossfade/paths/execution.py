"""Plans, executed on a connection of asyncpg.

Each function takes the connection, a plan and the values of one call. Where one operation needs several statements they
stand between BEGIN and COMMIT, unless a transaction is open already; after an error the transaction is left open, and
whoever holds the connection ends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from crossfade.errors import RecordNotFoundError
from crossfade.paths import ROLE_SETTING, SessionRole
from crossfade.query.compiled import (
    BatchPlan,
    ConstantPlan,
    CountPlan,
    DeleteRowPlan,
    FindPlan,
    Include,
    ManyPlan,
    Statement,
    UpsertPlan,
    Values,
    WriteRowPlan,
)
from crossfade.records import Record

Driver: TypeAlias = Any
Work: TypeAlias = Callable[[Driver, Any, Values], Awaitable[Any]]
_Rows: TypeAlias = Sequence[Any]

_NOT_FOUND = (
    "An operation failed because it depends on one or more records that were required but not found. "
)


async def fetch(driver: Driver, statement: Statement, values: Values) -> _Rows:
    """Run one statement with its share of the values."""
    rows: _Rows = await driver.fetch(statement.sql, *statement.arguments(values))
    return rows


async def _find(driver: Driver, plan: FindPlan, values: Values) -> Any:
    rows: _Rows = await driver.fetch(plan.statement.sql, *plan.statement.arguments(values))
    if plan.window is not None:
        rows = plan.window.rows(rows, values)
    if plan.single:
        rows = rows[:1]
    build = plan.build
    records = [build(row) for row in rows]
    if plan.includes and records:
        await _load(driver, plan.includes, rows, records, values)
    if not plan.single:
        return records
    if records:
        return records[0]
    if plan.required is not None:
        cause = "Expected a record, found none."
        raise RecordNotFoundError(_NOT_FOUND + cause, meta={"cause": cause})
    return None


async def _load(
    driver: Driver, includes: tuple[Include, ...], rows: _Rows, records: list[Record], values: Values
) -> None:
    """Fill the included relations of `records`, which were built from `rows`."""
    for include in includes:
        related = await _related(driver, include, rows, values)
        child_rows: list[Any] = []
        children: list[Record] = []
        for row, record in zip(rows, records, strict=True):
            found = related.get(tuple([row[position] for position in include.parent_key]), ())
            # Built anew for each parent: a record belongs to one holder, who may change it.
            built = [include.build(child) for child in found]
            record.__dict__[include.name] = built if include.is_list else (built[0] if built else None)
            if include.includes:
                child_rows.extend(found)
                children.extend(built)
        if children:
            await _load(driver, include.includes, child_rows, children, values)


async def _related(
    driver: Driver, include: Include, rows: _Rows, values: Values
) -> dict[tuple[Any, ...], _Rows]:
    """Fetch the rows of a relation, by their parent's key."""
    keys = {tuple([row[position] for position in include.parent_key]) for row in rows}
    wanted = [key for key in keys if None not in key]
    if not wanted:
        return {}
    columns = [list(column) for column in zip(*wanted, strict=True)]
    found = await driver.fetch(include.statement.sql, *include.statement.arguments(values, columns))
    related: dict[tuple[Any, ...], _Rows] = {}
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in found:
        groups.setdefault(tuple([row[position] for position in include.child_key]), []).append(row)
    for key, group in groups.items():
        related[key] = group if include.window is None else include.window.rows(group, values)
    return related


async def _count(driver: Driver, plan: CountPlan, values: Values) -> int | dict[str, int]:
    row = (await fetch(driver, plan.statement, values))[0]
    if plan.names is None:
        return int(row[0])
    return dict(zip(plan.names, row, strict=True))


async def _in_transaction(driver: Driver, work: Work, plan: Any, values: Values) -> Any:
    """Do `work` between BEGIN and COMMIT; whoever catches an error finds the transaction still open."""
    if driver.is_in_transaction():
        return await work(driver, plan, values)
    await driver.execute("BEGIN")
    result = await work(driver, plan, values)
    await driver.execute("COMMIT")
    return result


async def _write_row(driver: Driver, plan: WriteRowPlan, values: Values) -> Record | None:
    if plan.includes or plan.lookups or plan.links:
        # A caller that is told of an error must be able to rely on it that nothing was written.
        return await _in_transaction(driver, _write_and_load, plan, values)  # type: ignore[no-any-return]
    rows = await driver.fetch(plan.statement.sql, *plan.statement.arguments(values))
    return plan.build(rows[0]) if rows else None


async def _write_and_load(driver: Driver, plan: WriteRowPlan, values: Values) -> Record | None:
    keys: list[Any] = []
    for lookup in plan.lookups:
        found = await fetch(driver, lookup.statement, values)
        if not found:
            raise RecordNotFoundError(f"{_NOT_FOUND}No {lookup.model} found")
        keys += found[0]
    rows = await driver.fetch(plan.statement.sql, *plan.statement.arguments(values, keys))
    for link in plan.links if rows else ():
        key = [rows[0][plan.key]]
        found = await driver.fetch(link.statement.sql, *link.statement.arguments(values, key))
        if link.must_find and not found:
            raise RecordNotFoundError(f"{_NOT_FOUND}No {link.model} found")
    return await _built(driver, plan, rows, values)


async def _built(
    driver: Driver, plan: WriteRowPlan | DeleteRowPlan | UpsertPlan, rows: _Rows, values: Values
) -> Record | None:
    if not rows:
        return None
    record = plan.build(rows[0])
    await _load(driver, plan.includes, rows[:1], [record], values)
    return record


async def _delete_row(driver: Driver, plan: DeleteRowPlan, values: Values) -> Record | None:
    if plan.locked is not None:
        return await _in_transaction(driver, _load_and_delete, plan, values)  # type: ignore[no-any-return]
    rows = await fetch(driver, plan.statement, values)
    return plan.build(rows[0]) if rows else None


async def _load_and_delete(driver: Driver, plan: DeleteRowPlan, values: Values) -> Record | None:
    assert plan.locked is not None
    record = await _built(driver, plan, await fetch(driver, plan.locked, values), values)
    if record is not None:
        await fetch(driver, plan.statement, values)
    return record


async def _upsert(driver: Driver, plan: UpsertPlan, values: Values) -> Record | None:
    return await _in_transaction(driver, _look_and_write, plan, values)  # type: ignore[no-any-return]


async def _look_and_write(driver: Driver, plan: UpsertPlan, values: Values) -> Record | None:
    found = await fetch(driver, plan.locked, values)
    if found:
        key = [found[0][position] for position in plan.key]
        rows = await driver.fetch(plan.update.sql, *plan.update.arguments(values, key))
    else:
        rows = await fetch(driver, plan.insert, values)
    return await _built(driver, plan, rows, values)


async def _write_many(driver: Driver, plan: ManyPlan, values: Values) -> int:
    status: str = await driver.execute(plan.statement.sql, *plan.statement.arguments(values))
    return int(status.rpartition(" ")[2])


async def _write_batch(driver: Driver, plan: BatchPlan, values: Values) -> int:
    return int(await _in_transaction(driver, _write_each, plan, values))


async def _write_each(driver: Driver, plan: BatchPlan, values: Values) -> int:
    return sum([await _write_many(driver, ManyPlan(statement), values) for statement in plan.statements])


def answers_none(plan: Any) -> bool:
    """Whether a record that the operation requires and that is not there makes its answer None.

    Prisma's client takes such a fault of an update for a missing row of the update's own.
    """
    return type(plan) is WriteRowPlan and not plan.is_new


async def write_all(driver: Driver, plans: Sequence[tuple[Any, Values]], values: Values) -> None:
    """Execute the plans of several writes in one transaction. What is not there is an error here."""
    await _in_transaction(driver, _write_in_turn, plans, values)


async def _write_in_turn(driver: Driver, plans: Sequence[tuple[Any, Values]], _: Values) -> None:
    for plan, values in plans:
        if type(plan) is ConstantPlan:
            continue
        work, _reads = EXECUTORS[type(plan)]
        if await work(driver, plan, values) is None:
            cause = _MISSING[type(plan)]
            raise RecordNotFoundError(_NOT_FOUND + cause, meta={"cause": cause})


def as_follower(work: Work) -> Work:
    """Return `work` in a transaction that tells the fences whose it is, for connections that keep no settings."""

    async def run(driver: Driver, plan: Any, values: Values) -> Any:
        await driver.execute(BEGIN_AS_FOLLOWER)
        result = await work(driver, plan, values)
        await driver.execute("COMMIT")
        return result

    return run


BEGIN_AS_FOLLOWER = f"BEGIN; SELECT set_config('{ROLE_SETTING}', '{SessionRole.FOLLOWER}', true)"
"""Two statements in one message, which only the simple protocol takes: it has no parameters."""

_MISSING: Mapping[type[Any], str] = {
    WriteRowPlan: "Record to update not found.",
    UpsertPlan: "Record to update not found.",
    DeleteRowPlan: "Record to delete does not exist.",
}

EXECUTORS: Mapping[type[Any], tuple[Work, bool]] = {
    FindPlan: (_find, True),
    CountPlan: (_count, True),
    WriteRowPlan: (_write_row, False),
    DeleteRowPlan: (_delete_row, False),
    UpsertPlan: (_upsert, False),
    ManyPlan: (_write_many, False),
    BatchPlan: (_write_batch, False),
}
"""How each kind of plan is executed, and whether it only reads."""
