"""The follow queue: order per key, barriers, bounds, shutdown."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from crossfade.events import FollowDropped
from crossfade.follow import FollowJob, FollowQueue
from crossfade.keys import Key
from crossfade.operation import Action
from crossfade.testing import RecordingObserver


def key(model: str, value: object) -> Key:
    """A key of a row."""
    return Key(model, (("id", value),))


class Line:
    """A queue whose jobs wait to be let through, and note when they start and end."""

    def __init__(self, workers: int = 4, limit: int = 100) -> None:
        self.observer = RecordingObserver()
        self.queue = FollowQueue(self.observer, workers=workers, limit=limit)
        self.started: list[str] = []
        self.ended: list[str] = []
        self.dropped: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}

    def put(
        self,
        name: str,
        *keys: Key,
        parents: tuple[Key, ...] = (),
        barrier: bool = False,
        model: str = "Author",
    ) -> bool:
        """Queue a job called `name`."""
        gate = self._gates[name] = asyncio.Event()

        async def run() -> None:
            self.started.append(name)
            await gate.wait()
            self.ended.append(name)

        job = FollowJob(model, Action.UPDATE, run, keys=keys, parents=parents, is_barrier=barrier)
        job.on_drop = lambda _reason: self.dropped.append(name)
        return self.queue.offer(job)

    async def let(self, *names: str) -> None:
        """Let jobs end, one after the other."""
        for name in names:
            self._gates[name].set()
            await turn()


async def turn() -> None:
    """Give every ready task its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """A running line."""
    made = Line()
    made.queue.start()
    yield made
    await made.queue.close()


async def test_jobs_of_one_key_run_one_after_the_other(line: Line) -> None:
    """The second waits for the first to end."""
    line.put("first", key("Author", 1))
    line.put("second", key("Author", 1))
    await turn()
    assert ["first"] == line.started

    await line.let("first")
    assert ["first", "second"] == line.started


async def test_jobs_of_different_keys_run_side_by_side(line: Line) -> None:
    """Neither waits for the other."""
    line.put("one", key("Author", 1))
    line.put("two", key("Author", 2))
    await turn()

    assert ["one", "two"] == line.started


async def test_a_waiting_job_holds_no_worker(line: Line) -> None:
    """More jobs than workers on one key leave the workers to others."""
    for number in range(10):
        line.put(f"hot{number}", key("Author", 1))
    line.put("other", key("Author", 2))
    await turn()

    assert ["hot0", "other"] == line.started


async def test_a_child_waits_for_its_parent(line: Line) -> None:
    """Created in this order, followed in this order."""
    line.put("parent", key("Author", 1))
    line.put("child", key("Book", 1), parents=(key("Author", 1),), model="Book")
    await turn()
    assert ["parent"] == line.started

    await line.let("parent")
    assert ["parent", "child"] == line.started


async def test_children_of_one_parent_run_side_by_side(line: Line) -> None:
    """A foreign key is shared, not owned."""
    for number in (1, 2):
        line.put(f"child{number}", key("Book", number), parents=(key("Author", 1),), model="Book")
    await turn()

    assert ["child1", "child2"] == line.started


async def test_a_parents_delete_waits_for_all_its_children(line: Line) -> None:
    """Every child created before must be there before the parent goes."""
    for number in (1, 2):
        line.put(f"child{number}", key("Book", number), parents=(key("Author", 1),), model="Book")
    line.put("delete", key("Author", 1))
    await turn()
    await line.let("child1")
    assert "delete" not in line.started

    await line.let("child2")
    assert "delete" in line.started


async def test_a_barrier_waits_for_the_whole_model_and_holds_it(line: Line) -> None:
    """An update_many is after everything before it and before everything after it, in its model."""
    line.put("before", key("Author", 1))
    line.put("many", barrier=True)
    line.put("after", key("Author", 2))
    line.put("elsewhere", key("Book", 1), model="Book")
    await turn()
    assert ["before", "elsewhere"] == line.started

    await line.let("before")
    assert ["before", "elsewhere", "many"] == line.started

    await line.let("many")
    assert "after" in line.started


async def test_settling_waits_for_what_is_queued_now_and_no_more() -> None:
    """A model that never rests cannot hold a waiter for ever."""
    line = Line()
    line.queue.start()
    line.put("now", key("Author", 1))
    waiter = asyncio.create_task(line.queue.settle(["Author"]))
    await turn()
    line.put("later", key("Author", 2))
    await line.let("now")

    assert waiter.done()
    await line.queue.close()


async def test_a_full_queue_drops_and_counts() -> None:
    """Beyond the limit nothing is queued; the drop is reported and handed back."""
    line = Line(limit=1)

    assert line.put("kept", key("Author", 1))
    assert not line.put("dropped", key("Author", 2))
    assert ["dropped"] == line.dropped
    assert [FollowDropped("Author", Action.UPDATE, "queue_full")] == line.observer.of(FollowDropped)


async def test_closing_hands_back_what_did_not_run() -> None:
    """Jobs that wait, and the one that is interrupted, are dropped and counted."""
    line = Line(workers=1)
    line.queue.start()
    line.put("running", key("Author", 1))
    line.put("waiting", key("Author", 1))
    await turn()
    await line.queue.close()

    assert "waiting" in line.dropped
    assert 0 == len(line.queue)


async def test_nothing_is_remembered_of_finished_jobs(line: Line) -> None:
    """Keys come and go; memory does not grow with them."""
    for number in range(50):
        line.put(f"job{number}", key("Author", number), parents=(key("Book", number),))
        await line.let(f"job{number}")

    assert {} == line.queue._tails
    assert not line.queue.busy(key("Author", 1))
    assert 0 == line.queue.outstanding("Author")
