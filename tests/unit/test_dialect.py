"""Errors in two dialects at once, against the classes that Prisma Client Python really has."""

import pytest
from prisma import errors as vendor
from two_sides import AUTHOR, TwoSides

from crossfade import errors
from crossfade.client import DatabaseClient
from crossfade.dialect import ErrorDialect
from crossfade.stages import Stage

DIALECT = ErrorDialect.of("prisma")
SHARED = [
    "DataError",
    "UniqueViolationError",
    "ForeignKeyViolationError",
    "MissingRequiredValueError",
    "RawQueryError",
    "TableNotFoundError",
    "FieldNotFoundError",
    "RecordNotFoundError",
    "InputError",
]


@pytest.mark.parametrize("name", SHARED)
def test_an_error_is_of_both_classes_and_says_the_same(name: str) -> None:
    """Code, meta and text are kept; the vendor's own attributes are there."""
    error = getattr(errors, name)("what happened", meta={"target": ["email"], "table": "t"})
    both = DIALECT.translate(error)

    assert isinstance(both, getattr(vendor, name))
    assert isinstance(both, getattr(errors, name))
    assert (error.code, error.meta, "what happened") == (both.code, both.meta, str(both))
    assert error.code == both.data["user_facing_error"]["error_code"]  # type: ignore[attr-defined]


def test_a_kind_that_the_vendor_does_not_know_is_still_caught_by_its_root() -> None:
    """`except PrismaError` catches whatever the store refuses."""
    assert isinstance(DIALECT.translate(errors.ConnectionLostError("gone")), vendor.PrismaError)


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.LIVE])
async def test_a_call_site_of_old_catches_what_either_side_refuses(stage: Stage) -> None:
    """Both dialects in one `except` each, whoever has the authority."""
    async with TwoSides(stage) as sides:
        author = DatabaseClient(sides.repository, errors=DIALECT).model("Author")
        await author.create(data=AUTHOR)
        with pytest.raises(vendor.UniqueViolationError):
            await author.create(data=AUTHOR)
        with pytest.raises(errors.UniqueViolationError):
            await author.create(data=AUTHOR)


def test_a_missing_client_is_one_clear_error() -> None:
    """It says what to do."""
    with pytest.raises(errors.EngineError, match=r"no Prisma client in nowhere: generate it"):
        ErrorDialect.of("nowhere")


def test_the_joint_class_is_made_once() -> None:
    """So that two errors of one kind are of one class."""
    one, two = (DIALECT.translate(errors.InputError(text)) for text in "ab")

    assert type(one) is type(two)
