"""What was acknowledged, kept apart from the stores, and what may have become of it.

Rules of judgement:

* Every row has one owner, who alone writes to it, one call after the other. So the last acknowledged value of each
  column is known, but for what the foreign keys' own rules do.
* A row that was acknowledged and is not there must have been deleted: by its owner, or with a row that it referred to
  by a cascading key, at a time when it may have referred to it. If it was born after that row's deletion had been
  acknowledged, the race must be recorded as a conflict.
* A row whose deletion was acknowledged and that is there must be recorded as having returned.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

from .graph import Graph, Reference


class Span(NamedTuple):
    """The time of a call, from its start to its acknowledgement."""

    start: float
    end: float


@dataclass
class Hold:
    """For how long a row may have referred to another. `parent` is a tag; None: to none."""

    parent: str | None
    since: Span
    until: float = inf


@dataclass
class Row:
    """One row, as its owner knows it."""

    tag: str
    model: str
    owner: str
    key: dict[str, Any]
    values: dict[str, Any]
    holds: dict[str, list[Hold]]
    deletes: list[Span] = field(default_factory=list)
    renamed: list[Span] = field(default_factory=list)
    """When its key, or what else it may be referred to by, was changed; refused attempts count as well."""
    is_gone: bool = False
    """Whether its owner has deleted it, or has not found it any more."""


class Death(NamedTuple):
    """When a row may have been deleted; `is_late` if it was born or bound only after that."""

    span: Span
    is_late: bool


class Journal:
    """Notes of all who write, and the verdict on what the stores hold in the end."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rows: dict[str, Row] = {}
        self.links: set[tuple[str, str, str]] = set()
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.turned_down: list[tuple[str, list[str], Span]] = []
        self.lines: list[tuple[float, str]] = []

    def note(self, text: str, at: float | None = None) -> None:
        """Remember something for whoever has to understand a verdict."""
        self.lines.append((perf_counter() if at is None else at, text))

    def alive(self, model: str) -> list[Row]:
        """The rows of a model that nobody has missed yet."""
        return [row for row in self.rows.values() if row.model == model and not row.is_gone]

    # --- acknowledged ------------------------------------------------------------------------------------------------

    def created(self, row: Row, parents: Mapping[str, str | None], span: Span) -> None:
        """A row is there."""
        row.holds = {name: [Hold(tag, span)] for name, tag in parents.items()}
        self.rows[row.tag] = row
        self.note(
            f"created {row.model} {row.tag} key={row.key} code={row.values['code']} parents={dict(parents)}",
            span.end,
        )

    def changed(
        self,
        row: Row,
        values: Mapping[str, Any],
        parents: Mapping[str, str | None],
        key: Mapping[str, Any],
        span: Span,
    ) -> None:
        """A row has other values, refers to others, or has another key."""
        row.values |= values
        row.key |= key
        for name, tag in parents.items():
            row.holds[name][-1].until = span.end
            row.holds[name].append(Hold(tag, span))
        self.note(f"changed {row.model} {row.tag} {dict(values)} {dict(parents)} key={dict(key)}", span.end)

    def deleted(self, row: Row, span: Span) -> None:
        """A row is gone."""
        row.deletes.append(span)
        row.is_gone = True
        self.note(f"deleted {row.model} {row.tag} (since {span.start:.4f})", span.end)

    def linked(self, name: str, one: Row, other: Row, span: Span) -> None:
        """Two rows are linked."""
        self.links.add((name, one.tag, other.tag))
        self.note(f"linked {name} {one.tag} {other.tag}", span.end)

    def turned_down_child(self, what: str, parents: Sequence[str], span: Span) -> None:
        """A row was refused for want of a parent."""
        self.turned_down.append((what, list(parents), span))

    # --- judged ------------------------------------------------------------------------------------------------------

    def deaths(self) -> dict[str, set[Death]]:
        """When each row may have been deleted, by its owner or by a cascade."""
        found = {tag: {Death(span, is_late=False) for span in row.deletes} for tag, row in self.rows.items()}
        cascading = {
            (model.name, each.name)
            for model in self.graph.models.values()
            for each in model.references
            if each.on_delete == "Cascade"
        }
        grows = True
        while grows:
            grows = False
            for tag, row in self.rows.items():
                for name, holds in row.holds.items():
                    if (row.model, name) not in cascading:
                        continue
                    for hold in holds:
                        for death in found.get(hold.parent or "", set()).copy():
                            if death.span.start < hold.until:
                                own = Death(death.span, death.is_late or death.span.end < hold.since.start)
                                if own not in found[tag]:
                                    found[tag].add(own)
                                    grows = True
        return found

    def judge(
        self, stored: Mapping[str, Sequence[Mapping[str, Any]]], conflicts: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Say what is wrong with the rows that are there in the end, given what was acknowledged."""
        there = {row["tag"]: row for model in self.graph.models for row in stored[model]}
        returned, fallen = _tags(conflicts)
        deaths = self.deaths()
        wrong = [f"{tag} was never acknowledged" for tag in there.keys() - self.rows.keys()]
        for tag, row in self.rows.items():
            found = there.get(tag)
            if found is None:
                if not deaths[tag]:
                    wrong.append(f"{tag} is lost" + (" (recorded)" if tag in fallen else ""))
                elif all(death.is_late for death in deaths[tag]) and tag not in fallen:
                    wrong.append(f"{tag} fell with a parent that was gone before, and nobody recorded it")
                continue
            if row.deletes and tag not in returned:
                wrong.append(f"{tag} was deleted and is there")
            if tag not in returned:
                wrong += self._judge_values(row, found)
                wrong += self._judge_parents(row, found, stored, deaths)
        wrong += self._judge_links(stored, there, deaths)
        wrong += self._judge_refusals(deaths)
        return wrong

    def _judge_refusals(self, deaths: Mapping[str, set[Death]]) -> list[str]:
        """A child must not be refused while its parents are there, on whichever side they have been written."""
        wrong = []
        for what, parents, span in self.turned_down:
            excuses = [
                *(death.span.start < span.end for tag in self._and_above(parents) for death in deaths[tag]),
                *(
                    one.start < span.end
                    for tag in parents
                    for one in self.rows[tag].renamed
                    if one.end > span.start
                ),
                # Its key may change with that of the row that it refers to.
                *(self.graph.models[self.rows[tag].model].kind == "part" for tag in parents),
            ]
            if not any(excuses):
                wrong.append(f"{what} was refused although its parents {parents} were there")
        return wrong

    @staticmethod
    def _judge_values(row: Row, found: Mapping[str, Any]) -> list[str]:
        return [
            f"{row.tag}.{name} is {found[name]!r} and not {value!r}"
            for name, value in row.values.items()
            if found[name] != value
        ]

    def _judge_parents(
        self,
        row: Row,
        found: Mapping[str, Any],
        stored: Mapping[str, Sequence[Mapping[str, Any]]],
        deaths: Mapping[str, set[Death]],
    ) -> list[str]:
        wrong = []
        for reference in self.graph.models[row.model].references:
            last = row.holds[reference.name][-1]
            actual = _parent_tag(reference, found, stored)
            if actual == last.parent:
                continue
            may_be_null = reference.on_delete == "SetNull" and deaths.get(last.parent or "")
            if actual is None and may_be_null:
                continue
            wrong.append(f"{row.tag}.{reference.name} refers to {actual} and not to {last.parent}")
        return wrong

    def _judge_links(
        self,
        stored: Mapping[str, Sequence[Mapping[str, Any]]],
        there: Mapping[str, Mapping[str, Any]],
        deaths: Mapping[str, set[Death]],
    ) -> list[str]:
        wrong = []
        for name, one, other in self.links:
            if deaths[one] or deaths[other] or one not in there or other not in there:
                continue
            ends = [there[tag][self.graph.models[self.rows[tag].model].key[0]] for tag in (one, other)]
            if ends not in [[row["A"], row["B"]] for row in stored[f"_{name}"]]:
                wrong.append(f"the link of {one} and {other} is lost")
        return wrong

    def _and_above(self, tags: Sequence[str]) -> set[str]:
        """Rows with all that they may have hung on at some time: a parent that is lost keeps them waiting, too."""
        found: set[str] = set()
        waiting = list(tags)
        while waiting:
            tag = waiting.pop()
            if tag not in found and tag in self.rows:
                found.add(tag)
                waiting += [
                    hold.parent for holds in self.rows[tag].holds.values() for hold in holds if hold.parent
                ]
        return found

    def story(self, wrong: Sequence[str]) -> str:
        """What was noted of the rows that `wrong` names, and every move."""
        tags = {tag for text in wrong for tag in re.findall(r"[a-z0-9]+(?:-[a-z]+)?-[0-9]+", text)}
        for _ in range(3):  # and what they hang on
            tags |= {
                hold.parent
                for tag in tags
                if tag in self.rows
                for holds in self.rows[tag].holds.values()
                for hold in holds
                if hold.parent
            }
        about = re.compile("|".join(rf"{re.escape(tag)}\b" for tag in tags) if tags else "$^")
        return "\n".join(
            f"{at:.4f} {text}"
            for at, text in sorted(self.lines)
            if text.startswith("moved") or about.search(text)
        )


def _tags(conflicts: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """The rows that have returned, and those that have fallen."""
    returned: set[str] = set()
    fallen: set[str] = set()
    for conflict in conflicts:
        for image in (conflict["authority_image"], conflict["follower_image"]):
            if image is not None and (tag := json.loads(image).get("tag")):
                (fallen if conflict["policy"] == "cascade" else returned).add(tag)
    return returned, fallen


def _parent_tag(
    reference: Reference, found: Mapping[str, Any], stored: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str | None:
    wanted = [found[name] for name in reference.fields]
    for parent in stored[reference.parent]:
        if [parent[name] for name in reference.to] == wanted:
            return str(parent["tag"])
    return None
