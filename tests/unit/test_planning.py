"""Cohorts, order and estimates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crossfade.gates.comparisons import keys_needed
from crossfade.planning import Advice, Proof, advise, copying, declared_cohorts, in_order, proofs
from crossfade.schema import Schema
from crossfade.store.signals import Kind, Spanned
from crossfade.thresholds import GateThresholds
from sides import marketplace_schema
from small_schema import SMALL, cuid_id, relation, scalar

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(hours=1)


def wrote(*models: str, times: int = 1, seen: datetime = NOON) -> Spanned:
    return Spanned(models, is_write=True, times=times, seen=seen)


@pytest.mark.parametrize(
    ("spans", "cohorts", "advice"),
    [
        ([], {}, []),
        ([wrote("A", "B", times=3)], {}, [Advice(("A", "B"), 3, NOON)]),
        ([wrote("A", "B")], {"A": "one", "B": "one"}, []),
        ([wrote("A", "B")], {"A": "one", "B": "two"}, [Advice(("A", "B"), 1, NOON)]),
        (
            [wrote("B", "C", times=2, seen=EARLIER), wrote("A", "B", times=3)],
            {},
            [Advice(("A", "B", "C"), 5, NOON)],
        ),
        ([wrote("B", "C")], {"A": "one", "B": "one"}, [Advice(("A", "B", "C"), 1, NOON)]),
        ([wrote("A", "B"), wrote("C", "D")], {}, [Advice(("A", "B"), 1, NOON), Advice(("C", "D"), 1, NOON)]),
        ([Spanned(("A", "B"), is_write=False, times=9, seen=NOON)], {}, []),
    ],
)
def test_what_single_writes_span_belongs_together(
    spans: list[Spanned], cohorts: dict[str, str | None], advice: list[Advice]
) -> None:
    """Through a third model as well, and with the cohorts that are touched; reads bind nobody."""
    assert advice == advise(spans, cohorts)


def test_declared_cohorts_by_name() -> None:
    """Models without one are in none."""
    assert {"a": ("X", "Z"), "b": ("Y",)} == declared_cohorts({"Z": "a", "Y": "b", "X": "a", "W": None})


def test_parents_come_first() -> None:
    """In the reference application, whatever the cohorts are."""
    schema = marketplace_schema()
    for cohorts in ({}, {"Order": "sale", "Shipment": "sale"}, {"Conversation": "talk", "Message": "talk"}):
        places = in_order(schema, cohorts)  # type: ignore[arg-type]
        at = {model: number for number, place in enumerate(places) for model in place}

        assert sorted(schema.models) == sorted(at)
        assert [] == [
            (model, parent) for model in at for parent in schema.parents(model) if at[parent] > at[model]
        ]
        assert {tuple(place) for place in places if len(place) > 1} == (
            {tuple(sorted(cohorts, key=list(cohorts).index))} if cohorts else set()
        )


def test_a_circle_is_cut_where_the_schema_begins() -> None:
    """Two models that refer to each other have some order, always the same."""
    models = [
        {
            "name": name,
            "dbName": None,
            "fields": [
                cuid_id(),
                scalar("other_id"),
                relation("other", other, way, relationFromFields=["other_id"], relationToFields=["id"]),
                relation("others", other, back, isList=True),
            ],
            "primaryKey": None,
            "uniqueIndexes": [],
        }
        for name, other, way, back in (("Hen", "Egg", "laid", "hatched"), ("Egg", "Hen", "hatched", "laid"))
    ]
    circle = Schema.from_dmmf({"datamodel": {"enums": [], "models": models}})

    assert [("Egg",), ("Hen",)] == in_order(circle, {})
    assert [("Author", "Book")] == in_order(SMALL, {"Book": "shelf", "Author": "shelf"})


def kind(action: str, compared: int, times: int, mismatched: int = 0) -> Kind:
    return Kind("User", "read", action, compared, mismatched, {"matched": times})


def test_keys_that_are_lacking_take_their_time() -> None:
    """At the rate at which distinct keys have come since the model is at its stage."""
    thresholds = GateThresholds()
    kinds = [kind("find_many", 600, 5000), kind("count", 9000, 9000)]
    lacking = keys_needed(kinds, thresholds)["find_many"]

    assert lacking is not None
    assert [Proof("find_many", lacking, lacking / 10)] == proofs(kinds, thresholds, 60.0)


def test_of_what_never_came_no_time_is_told() -> None:
    """Neither of a kind without a key, nor of a model that compares nothing yet."""
    thresholds = GateThresholds()
    unseen = [kind("find_many", 0, 10)]
    lacking = keys_needed(unseen, thresholds)["find_many"]

    assert [Proof("find_many", lacking, None)] == proofs(unseen, thresholds, 60.0)
    assert [Proof("", lacking, None)] == proofs([], thresholds, 60.0)


@pytest.mark.parametrize(
    ("rows", "rate", "seconds"), [(0, None, 0.0), (100, None, None), (100, 0.0, None), (100, 50.0, 2.0)]
)
def test_rows_take_their_time(rows: int, rate: float | None, seconds: float | None) -> None:
    """Where nothing was copied yet, nobody knows how long."""
    assert seconds == copying(rows, rate).seconds
