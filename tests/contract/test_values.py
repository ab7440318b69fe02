"""Values: what goes in comes out the same on both sides, in one canonical form."""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from crossfade.fields import Base64, Json
from sides import OpenSide

from .calls import Calls


async def stored(db: Calls, **data: Any) -> Any:
    """Create a user with these values and read it back."""
    created = await db.user.create(data={"id": "u", "email": "u@example.com", **data})
    found = await db.user.find_unique(where={"id": "u"})
    assert created == found
    return found


async def snapshot(db: Calls, **data: Any) -> Any:
    """Create a snapshot with these values and read it back."""
    base = {"scope": "s", "day": datetime(2026, 1, 1, tzinfo=UTC), "gross": Decimal(1), "totals": Json({})}
    created = await db.analyticssnapshot.create(data={**base, **data})
    found = await db.analyticssnapshot.find_unique(where={"id": created.id})
    assert created == found
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "'\"\\",
        "tab\tnewline\nreturn\r",
        "žluťoučký kůň",
        "日本語 🦀",
        "$1 :name %s {x}",
        "x" * 20_000,
        "line\u2028paragraph\u2029next\x85end",
    ],
)
async def test_strings(empty: Calls, text: str) -> None:
    """Any text comes back as it was."""
    assert text == (await stored(empty, name=text)).name


@pytest.mark.parametrize("number", [0, -1, 2**31 - 1, -(2**31)])
async def test_ints(empty: Calls, number: int) -> None:
    """Ints come back as ints, to the ends of their range."""
    found = (await stored(empty, login_count=number)).login_count

    assert (number, int) == (found, type(found))


@pytest.mark.parametrize("number", [0, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_big_ints(empty: Calls, number: int) -> None:
    """BigInts come back as exact ints, beyond what a double can carry."""
    found = (await stored(empty, storage_bytes=number)).storage_bytes

    assert (number, int) == (found, type(found))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.0, 0.0),
        (-0.0, 0.0),
        (0.1, 0.1),
        (-1.5, -1.5),
        (700.0, 700.0),
        (3, 3.0),
        (1e300, 1e300),
        (2.5e-300, 2.5e-300),
        (1 / 3, 0.3333333333333333),
        (0.1 + 0.2, 0.3),
        (1.0000000000000002, 1.0),
    ],
)
async def test_floats(empty: Calls, given: float, expected: float) -> None:
    """Floats come back as floats, whole ones too. Of what is sent, 16 digits are kept; a double has up to 17."""
    found = (await stored(empty, reputation=given)).reputation

    assert (expected, float) == (found, type(found))
    assert math.copysign(1, expected) == math.copysign(1, found)
    assert 1 == await empty.user.count(where={"reputation": given})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", "0"),
        ("0.00", "0"),
        ("1.50", "1.5"),
        ("100", "100"),
        ("-12.34", "-12.34"),
        ("9999999999.99", "9999999999.99"),
        ("1.005", "1.01"),
        ("1E+3", "1000"),
    ],
)
async def test_decimals_of_a_fixed_scale(empty: Calls, given: str, expected: str) -> None:
    """A decimal is rounded to its column's scale and comes back without trailing zeros."""
    found = (await stored(empty, balance=Decimal(given))).balance

    assert (expected, Decimal) == (str(found), type(found))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0.1", "0.1"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
        ("0.000000000000000000000000000001", "0.000000000000000000000000000001"),
        ("10.0000", "10"),
        ("-0.0", "0"),
        ("120000", "120000"),
    ],
)
async def test_decimals_of_many_digits(empty: Calls, given: str, expected: str) -> None:
    """A decimal without a scale keeps up to 65 digits, 30 of them after the point."""
    found = (await snapshot(empty, exact=Decimal(given))).exact

    assert (Decimal(expected), Decimal) == (found, type(found))
    assert expected == format(found, "f")


@pytest.mark.parametrize("flag", [True, False])
async def test_booleans(empty: Calls, flag: bool) -> None:
    """Booleans are booleans."""
    assert flag is (await stored(empty, is_active=flag)).is_active


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5, 999000, tzinfo=UTC),
        ),
        (
            datetime(2026, 1, 2, 3, 4, 5, 500),  # noqa: DTZ001  # naive on purpose
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        (
            datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001  # naive on purpose
            datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        ),
        (
            datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2026, 1, 1, 21, 34, tzinfo=UTC),
        ),
        (
            datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC),
        ),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        (datetime(1, 1, 2, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)),
        (datetime(9999, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
async def test_times(empty: Calls, given: datetime, expected: datetime) -> None:
    """Times are cut, not rounded, to milliseconds and come back aware, in UTC, whatever the column keeps."""
    user = await stored(empty, created_at=given, last_login_at=given)

    assert (expected, expected) == (user.created_at, user.last_login_at)
    assert (timedelta(0), timedelta(0)) == (user.created_at.utcoffset(), user.last_login_at.utcoffset())


async def test_dates(empty: Calls) -> None:
    """A date column keeps the day alone, and it comes back as midnight in UTC."""
    found = await snapshot(empty, day=datetime(2026, 5, 6, 23, 59, tzinfo=UTC))

    assert datetime(2026, 5, 6, tzinfo=UTC) == found.day
    assert date(2026, 5, 6) == found.day.date()
    assert found == await empty.analyticssnapshot.find_first(where={"day": datetime(2026, 5, 6, tzinfo=UTC)})


@pytest.mark.parametrize("given", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
async def test_the_first_and_the_last_day(empty: Calls, opened: OpenSide, given: datetime) -> None:
    """The ends of the calendar are stored as days and moments, never as infinity."""
    await snapshot(empty, day=given, created_at=given)
    await stored(empty, created_at=given, last_login_at=given)

    texts = [
        *await opened.store.fetchrow('SELECT day::text, created_at::text FROM "AnalyticsSnapshot"'),
        *await opened.store.fetchrow("SELECT created_at::text, last_login_at::text FROM users"),
    ]
    assert [f"{given:%m-%d}"] * 4 == [text[5:10] for text in texts]
    assert 1 == await empty.analyticssnapshot.count(where={"day": given, "created_at": given})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05.6786z", datetime(2026, 1, 2, 3, 4, 5, 679000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.6784+05:30", datetime(2026, 1, 1, 21, 34, 5, 678000, tzinfo=UTC)),
    ],
)
async def test_times_given_as_text(empty: Calls, given: str, expected: datetime) -> None:
    """Text passes for a moment when it is complete; the store rounds it, because no client has cut it."""
    await empty.user.create(
        data={"id": "u", "email": "u@example.com", "created_at": given, "last_login_at": given}
    )
    found = await empty.user.find_unique(where={"id": "u"})

    assert (expected, expected) == (found.created_at, found.last_login_at)


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xff\xfe\x00", bytes(range(256)), b"text"])
async def test_bytes(empty: Calls, raw: bytes) -> None:
    """Bytes come back as `Base64` around the same bytes."""
    found = (await stored(empty, avatar=Base64.encode(raw))).avatar

    assert isinstance(found, Base64)
    assert raw == found.decode()


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        True,
        0,
        "",
        "text",
        '{"text": "that looks like a document"}',
        {"a": {"b": [1, {"c": None}]}},
        {"čeština": "日本語 🦀", 'quote"': "\\ \n"},
        [1, -1, 2**40, 1.5, 0.1, 1e-7],
        {"": "empty key", "$type": "Json", "value": "not a tag"},
        [[[[]]]],
        json.loads("[" * 127 + "]" * 127),
        [{"many": "documents"}] * 200,
    ],
)
async def test_documents(empty: Calls, document: Any) -> None:
    """A document comes back as it was, parsed."""
    found = (await stored(empty, preferences=Json(document))).preferences

    assert document == found
    assert type(document) is type(found)


async def test_numbers_inside_documents(empty: Calls) -> None:
    """A whole float in a document stays a float, an int an int, and a long int exact."""
    found = (await stored(empty, preferences=Json([1, 1.0, 700.0, 2**53 + 1]))).preferences

    assert [1, 1.0, 700.0, 2**53 + 1] == found
    assert [int, float, float, int] == [type(number) for number in found]


async def test_documents_with_repeated_and_ordered_keys(empty: Calls) -> None:
    """The store keeps documents by value: the order of keys is its own, and the same on both sides."""
    found = (await stored(empty, preferences=Json({"bb": 1, "a": 2, "ccc": 3}))).preferences

    assert ["a", "bb", "ccc"] == list(found)


async def test_document_keys_become_text(empty: Calls) -> None:
    """Keys that are not text are written as JSON writes them."""
    found = (await stored(empty, preferences=Json({2: "two", True: "yes", None: "null"}))).preferences

    assert {"2": "two", "true": "yes", "null": "null"} == found


async def test_values_inside_documents(empty: Calls) -> None:
    """Values that JSON has no form for are written as text, as Prisma's client writes them."""
    document = {"d": Decimal("1.50"), "t": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC), "l": (1, 2)}
    found = (await stored(empty, preferences=Json(document))).preferences

    assert {"d": "1.50", "t": "2026-01-02T03:04:05.678000+00:00", "l": [1, 2]} == found


async def test_documents_of_null(empty: Calls) -> None:
    """Both a missing document and a JSON null are None."""
    await empty.user.create(data={"id": "o", "email": "o@example.com"})
    item = {"owner_id": "o", "title": "t", "price": Decimal(1)}
    await empty.item.create(data={"id": "missing", "sku": "1", **item})
    await empty.item.create(data={"id": "null", "sku": "2", "metadata": Json(None), **item})

    items = await empty.item.find_many(order={"id": "asc"})
    assert [None, None] == [one.metadata for one in items]


@pytest.mark.parametrize("tags", [[], ["a"], ["b", "a", "b"], ["", "NULL", "null", '"', "a,b", "{}", "\\"]])
async def test_lists_of_strings(empty: Calls, tags: list[str]) -> None:
    """Lists keep order, repetition and every character."""
    assert tags == (await stored(empty, tags=tags)).tags


async def test_a_list_that_is_null(empty: Calls) -> None:
    """A list that was never given is NULL in the store and empty in the row."""
    assert [] == (await stored(empty)).tags
    assert 1 == await empty.user.count(where={"tags": {"equals": None}})


@pytest.mark.parametrize("channels", [[], ["SMS"], ["PUSH", "EMAIL", "PUSH"]])
async def test_lists_of_enums(empty: Calls, channels: list[str]) -> None:
    """Lists of enum values come back as plain text."""
    found = (await stored(empty, notify_by=channels)).notify_by

    assert channels == found
    assert all(type(value) is str for value in found)


async def test_lists_of_ints(empty: Calls) -> None:
    """Lists of ints are ints."""
    await empty.user.create(data={"id": "o", "email": "o@example.com"})
    item = await empty.item.create(
        data={
            "sku": "1",
            "owner_id": "o",
            "title": "t",
            "price": Decimal(1),
            "dimensions_mm": [0, -5, 2**31 - 1],
        }
    )

    assert [0, -5, 2**31 - 1] == item.dimensions_mm


@pytest.mark.parametrize("condition", ["NEW", "LIKE_NEW", "GOOD", "FAIR", "FOR_PARTS"])
async def test_enums_with_mapped_names(empty: Calls, condition: str) -> None:
    """An enum value has the schema's name in a row, whatever the store calls it."""
    await empty.user.create(data={"id": "o", "email": "o@example.com"})
    item = await empty.item.create(
        data={
            "id": "i",
            "sku": "1",
            "owner_id": "o",
            "title": "t",
            "price": Decimal(1),
            "condition": condition,
        }
    )

    assert (condition, str) == (item.condition, type(item.condition))
    assert 1 == await empty.item.count(where={"condition": condition})
