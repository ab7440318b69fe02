"""Several writes as one, by an author: transactions and batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from .journal import Row, Span
from .writer import REFUSED, tags

if TYPE_CHECKING:
    from .author import Author

Effect: TypeAlias = Callable[[Span], None]
"""What to note when everything is acknowledged."""


def _together(author: Author) -> list[str]:
    """Models of one authority."""
    side = author.world.authority(author.chance.choice(list(author.world.graph.models)))
    return [name for name in author.world.graph.models if author.world.authority(name) is side]


async def transaction(author: Author) -> None:
    """Write to several models of one authority, all or none."""
    models = _together(author)
    steps = author.chance.randint(1, 4)
    is_undone = author.chance.random() < 0.15
    done: list[Effect] = []

    async def run() -> None:
        born: list[Row] = []
        gone: set[str] = set()
        with suppress(_UndoError):
            async with author.world.db.tx() as tx:
                for _ in range(steps):
                    await _in_transaction(author, tx, author.chance.choice(models), done, born, gone)
                if is_undone:
                    raise _UndoError

    result, span = await author.call(f"tx {models}", run, may_mix=True)
    if result is not REFUSED and not is_undone:
        for effect in done:
            effect(span)


async def _in_transaction(
    author: Author, tx: Any, model: str, done: list[Effect], born: list[Row], gone: set[str]
) -> None:
    rows = [row for row in author.mine(model) if row.tag not in gone]
    choice = author.chance.random()
    if choice < 0.55 or not rows:
        made = author.new_row(model)
        if made is None:
            return
        row, parents = made
        for reference in author.world.graph.models[model].references:
            fresh = [each for each in born if each.model == reference.parent]
            if (
                fresh
                and ("code" not in reference.to or fresh[-1].values["code"])
                and author.chance.random() < 0.7
            ):
                parents[reference.name] = fresh[-1]
        record = await author.client(model, tx).create(data=author.data(row, parents))
        row.key = author.learn_key(row, record)
        born.append(row)
        done.append(partial(author.journal.created, row, tags(parents)))
    elif choice < 0.85:
        row, label = author.chance.choice(rows), author.word()
        record = await author.client(model, tx).update(where=author.where(row), data={"label": label})
        if record is not None:
            done.append(partial(author.journal.changed, row, {"label": label}, {}, {}))
    else:
        row = author.chance.choice(rows)
        record = await author.client(model, tx).delete(where=author.where(row))
        if record is not None:
            gone.add(row.tag)
            done.append(partial(author.journal.deleted, row))


async def batch(author: Author) -> None:
    """Write several rows of models of one authority in one batch."""
    models = _together(author)
    together = author.world.db.batch_()
    done: list[Effect] = []
    used: set[str] = set()
    for _ in range(author.chance.randint(1, 4)):
        model = author.chance.choice(models)
        rows = [row for row in author.mine(model) if row.tag not in used]
        made = author.new_row(model)
        # Only keys that nobody mints elsewhere are known of a batch's rows.
        if (
            made is not None
            and author.world.graph.models[model].kind != "serial"
            and author.chance.random() < 0.6
        ):
            row, parents = made
            data = author.data(row, parents)
            getattr(together, model.lower()).create(data=data)
            primary = author.world.schema.models[model].primary_key
            row.key = {name: value for name, value in data.items() if name in primary}
            done.append(partial(author.journal.created, row, tags(parents)))
        elif rows:
            row, label = author.chance.choice(rows), author.word()
            used.add(row.tag)
            if author.chance.random() < 0.8:
                getattr(together, model.lower()).update(where=author.where(row), data={"label": label})
                done.append(partial(author.journal.changed, row, {"label": label}, {}, {}))
            else:
                getattr(together, model.lower()).delete(where=author.where(row))
                done.append(partial(author.journal.deleted, row))
    if not done:
        return
    result, span = await author.call(f"batch {models}", together.commit, may_mix=True)
    if result is not REFUSED:
        for effect in done:
            effect(span)


class _UndoError(Exception):
    pass
