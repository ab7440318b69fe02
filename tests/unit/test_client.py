"""The front door: each call becomes the operation that its name says."""

from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.client import DatabaseClient, ModelClient
from crossfade.errors import UnknownModelError
from crossfade.operation import Action, Operation
from crossfade.stages import Stage

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("find_unique", {"where": {"id": "a1"}}),
    ("find_unique", {"where": {"id": "a1"}, "include": {"books": True}}),
    ("find_unique_or_raise", {"where": {"id": "a1"}}),
    ("find_first", {"where": {"name": "x"}, "skip": 1, "order": {"id": "asc"}}),
    ("find_first_or_raise", {"where": {"name": "x"}}),
    ("find_many", {}),
    ("find_many", {"take": -2, "skip": 0, "order": [{"id": "asc"}], "where": {"name": None}}),
    ("count", {"select": {"_all": True}}),
    ("update_many", {"data": {"name": "x"}, "where": {}}),
    ("delete", {"where": {"id": "a1"}}),
    ("delete_many", {}),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS)
async def test_a_call_is_its_operation(name: str, arguments: dict[str, Any]) -> None:
    """Arguments arrive as they were given, and no others."""
    async with TwoSides(Stage.OFF) as sides:
        await getattr(sides.author, name)(**arguments)

    assert [Operation("Author", Action(name), arguments)] == sides.prisma.executed


async def test_none_means_not_given_at_the_top_and_null_inside() -> None:
    """As Prisma Client Python has it."""
    async with TwoSides(Stage.OFF) as sides:
        await sides.author.find_many(take=None, where={"name": None})

    assert [{"where": {"name": None}}] == [operation.arguments for operation in sides.prisma.executed]


@pytest.mark.parametrize("data", [AUTHOR, [AUTHOR], (AUTHOR,)])
async def test_create_many_takes_one_row_or_several(data: Any) -> None:
    """A single row counts as a list of one."""
    async with TwoSides(Stage.DUALWRITE) as sides:
        assert 1 == await sides.author.create_many(data=data)
        await sides.rest()

    assert sides.both_equal()


async def test_models_are_found_by_their_names() -> None:
    """In lower case as an attribute, as written by `model`."""
    async with TwoSides() as sides:
        client = DatabaseClient(sides.repository)

        assert client.model("Author") is client.author  # type: ignore[attr-defined]
        with pytest.raises(UnknownModelError):
            client.model("author")


def test_every_action_has_a_method() -> None:
    """A new action cannot be forgotten at the front door."""
    assert {str(action) for action in Action} <= set(dir(ModelClient))
