"""What one process sums up of what it sees, and what is left of it when it is to be published."""

from __future__ import annotations

import pytest

from crossfade import errors
from crossfade.events import (
    Event,
    FollowDropped,
    ModelsSpanned,
    OperationFinished,
    ReadCompared,
    Role,
    ShadowDropped,
    Verdict,
    WriteCompared,
)
from crossfade.operation import Action
from crossfade.stages import Side
from crossfade.store.fleet import EVIDENCE_BITS, EVIDENCE_PAGES, PAGE_BITS
from crossfade.store.signals import BOUNDS, BUCKETS, percentile
from crossfade.tally import Tally
from small_schema import SMALL

ALL = 10**9


class Seen:
    """A tally of two models, the stays of which a test sets."""

    def __init__(self) -> None:
        self.entered = {"Author": 1, "Book": 1}
        self.asked: dict[Role, Side | None] = {Role.SHADOW: None, Role.FOLLOWER: Side.SQLALCHEMY}
        self.tally = Tally(SMALL, self.entered.__getitem__, lambda _, role: self.asked[role])

    def enter(self, model: str, entered: int) -> None:
        self.entered[model] = entered
        self.tally.enter(model, entered)

    def called(self, seconds: float = 0.001, *, model: str = "Author", error: str | None = None) -> None:
        self.tally.observe(
            OperationFinished(model, Action.COUNT, Side.SQLALCHEMY, Role.SHADOW, seconds, error)
        )

    def compared(self, subject: int, verdict: Verdict = Verdict.MATCHED, model: str = "Author") -> None:
        self.tally.observe(ReadCompared(model, Action.COUNT, verdict, (), subject))


@pytest.fixture
def seen() -> Seen:
    """Nothing has been seen yet."""
    return Seen()


def bits(page: bytes) -> int:
    """How many bits of a page are set."""
    return int.from_bytes(page, "big").bit_count()


def test_calls_are_summed_by_model_action_side_and_role(seen: Seen) -> None:
    """With a histogram that has every one of them, the very slow included."""
    for seconds in (0.0, BOUNDS[5], BOUNDS[5] * 1.01, 1_000.0):
        seen.called(seconds)
    (row,) = seen.tally.take(ALL).timings

    assert ("Author", 1, "count", "sqlalchemy", "shadow", 0) == row[:6]
    assert {0: 1, 5: 1, 6: 1, BUCKETS - 1: 1} == {n: count for n, count in enumerate(row.buckets) if count}


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (None, 0),
        (errors.UniqueViolationError, 0),
        (errors.RecordNotFoundError, 0),
        (errors.QueryError, 0),
        (errors.WrongAuthorityError, 0),
        (errors.LateWriteError, 0),
        (errors.ConnectionLostError, 1),
        (errors.StoreUnavailableError, 1),
        (errors.EngineError, 1),
        (errors.TableNotFoundError, 1),
        (errors.UnsupportedQueryError, 1),
        (TimeoutError, 1),
        (ConnectionRefusedError, 1),
        (KeyError, 1),
    ],
)
def test_only_what_is_the_sides_own_fault_is_a_failure(
    seen: Seen, error: type[Exception] | None, failures: int
) -> None:
    """Not what the caller asked wrongly, nor what belongs to every move."""
    seen.called(error=None if error is None else error.__name__)
    (row,) = seen.tally.take(ALL).timings

    assert failures == row.failures
    assert 1 == sum(row.buckets)


def test_only_what_has_changed_is_published_again(seen: Seen) -> None:
    """As the whole sum."""
    seen.called()
    seen.compared(1, Verdict.IGNORED)
    seen.tally.take(ALL)
    nothing = seen.tally.take(ALL)
    seen.called()
    seen.compared(2, Verdict.IGNORED)
    batch = seen.tally.take(ALL)

    assert ([], [], [], []) == nothing
    assert [2] == [sum(row.buckets) for row in batch.timings]
    assert [("ignored", 2)] == [(row.verdict, row.compared) for row in batch.comparisons]


def test_keys_become_bits(seen: Seen) -> None:
    """One for each key that was matched or mismatched; the others are counted and prove nothing."""
    for verdict in Verdict:
        seen.compared(0, verdict)
    seen.compared(EVIDENCE_BITS + 1, Verdict.MATCHED)
    seen.compared(5 * PAGE_BITS, Verdict.IN_FLIGHT)
    batch = seen.tally.take(ALL)

    assert [(0, 2, 1)] == [(row.page, bits(row.compared), bits(row.mismatched)) for row in batch.evidence]
    assert 8 == sum(row.compared for row in batch.comparisons)
    seen.compared(0, Verdict.MISMATCHED)
    assert [] == seen.tally.take(ALL).evidence


def test_reads_and_writes_are_told_apart(seen: Seen) -> None:
    """They are kinds of their own."""
    seen.compared(1)
    seen.tally.observe(WriteCompared("Author", Action.UPDATE, Verdict.MATCHED, (), 1))

    assert [("read", "count"), ("write", "update")] == [
        (row.kind, row.action) for row in seen.tally.take(ALL).evidence
    ]


def test_a_mismatch_does_not_wait_for_its_turn(seen: Seen) -> None:
    """Where more pages have changed than are written at once."""
    for page in range(EVIDENCE_PAGES):
        seen.compared(page * PAGE_BITS)
    seen.compared(50 * PAGE_BITS, Verdict.MISMATCHED)
    first = [row.page for row in seen.tally.take(10).evidence]
    rest = [row.page for row in seen.tally.take(ALL).evidence]

    assert [50, *range(9)] == first
    assert sorted({*range(EVIDENCE_PAGES)} - {*first}) == rest


def test_what_is_seen_after_a_move_counts_for_the_new_stay(seen: Seen) -> None:
    """And what was seen before it is dropped; other models keep theirs."""
    for model in ("Author", "Book"):
        seen.called(model=model)
        seen.compared(7, model=model)
    seen.enter("Author", 2)
    seen.called()
    seen.compared(8)
    batch = seen.tally.take(ALL)

    assert {("Author", 2, 1), ("Book", 1, 1)} == {(r.model, r.entered, sum(r.buckets)) for r in batch.timings}
    assert {("Author", 2, 1), ("Book", 1, 1)} == {(r.model, r.entered, r.compared) for r in batch.comparisons}
    assert {("Author", 2, 1), ("Book", 1, 1)} == {
        (r.model, r.entered, bits(r.compared)) for r in batch.evidence
    }


def test_what_could_not_be_published_is_published_later(seen: Seen) -> None:
    """With what was seen meanwhile; what belongs to a former stay is not."""
    seen.called()
    seen.called(model="Book")
    seen.compared(1)
    seen.compared(1, model="Book")
    seen.tally.observe(ModelsSpanned(("Book", "Author"), is_write=False))
    failed = seen.tally.take(ALL)
    seen.enter("Book", 2)
    seen.called()
    seen.compared(2)
    seen.tally.observe(ModelsSpanned(("Author", "Book"), is_write=False))
    seen.tally.put_back(failed)
    batch = seen.tally.take(ALL)

    assert [("Author", 2)] == [(row.model, sum(row.buckets)) for row in batch.timings]
    assert [("Author", 2)] == [(row.model, row.compared) for row in batch.comparisons]
    assert [("Author", 2)] == [(row.model, bits(row.compared)) for row in batch.evidence]
    assert [(("Author", "Book"), False, 2)] == batch.spanned


def test_models_that_nobody_knows_are_passed_over(seen: Seen) -> None:
    """They make no rows."""
    facts: list[Event] = [
        OperationFinished("Stranger", Action.COUNT, Side.PRISMA, Role.AUTHORITY, 0.1, None),
        ReadCompared("Stranger", Action.COUNT, Verdict.MATCHED, (), 1),
        ModelsSpanned(("Author", "Stranger"), is_write=True),
    ]
    for fact in facts:
        seen.tally.observe(fact)

    assert ([], [], [], []) == seen.tally.take(ALL)


def test_memory_is_bounded_while_nothing_can_be_published(seen: Seen) -> None:
    """However many facts there are, what waits is as much as the schema has kinds of calls."""
    for number in range(200_000):
        seen.compared(number * 7_919)
        seen.tally.observe(ModelsSpanned(("Author", "Book", f"{number}"), is_write=False))
    batch = seen.tally.take(ALL)
    seen.tally.put_back(batch)

    assert EVIDENCE_PAGES == len(batch.evidence) == len(seen.tally.take(ALL).evidence)
    assert 200_000 == batch.comparisons[0].compared
    assert EVIDENCE_BITS >= sum(bits(row.compared) for row in batch.evidence) > 0.9 * EVIDENCE_BITS
    assert 1 == len(batch.spanned)


@pytest.mark.parametrize(
    ("counts", "share", "bucket"),
    [({3: 100}, 0.99, 3), ({3: 99, 9: 1}, 0.99, 3), ({3: 98, 9: 2}, 0.99, 9), ({0: 1, 9: 1}, 0.0, 0)],
)
def test_a_percentile_is_the_bound_that_so_many_calls_keep(
    counts: dict[int, int], share: float, bucket: int
) -> None:
    """Exact to a step of the histogram."""
    buckets = [counts.get(number, 0) for number in range(BUCKETS)]

    assert BOUNDS[bucket] == percentile(buckets, share)


def test_the_slowest_calls_have_a_percentile_too() -> None:
    """One step beyond the last bound; and without calls there is none."""
    slow = [0] * (BUCKETS - 1) + [5]

    assert BOUNDS[-1] < percentile(slow, 0.5) < 2 * BOUNDS[-1]
    assert 0.0 == percentile([0] * BUCKETS, 0.99) == percentile([], 0.99)


def test_what_the_breaker_turns_away_is_a_call_that_failed(seen: Seen) -> None:
    """A side that is gone is not one that nobody calls; what is dropped for other reasons is nobody's failure."""
    for reason in ("breaker_open", "queue_full", "late"):
        seen.tally.observe(FollowDropped("Author", Action.CREATE, reason))
        seen.tally.observe(FollowDropped("Elsewhere", Action.CREATE, reason))
        seen.tally.observe(ShadowDropped("Author", Action.COUNT, reason))

    [row] = seen.tally.take(ALL).timings

    assert ("Author", Action.CREATE, Side.SQLALCHEMY, Role.FOLLOWER, 1) == (
        row.model,
        row.action,
        row.side,
        row.role,
        row.failures,
    )
    assert 1 == sum(row.buckets)
