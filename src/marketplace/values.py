"""The values that the workload writes. Those that overwrite others are different each time.

So a value that stands in a store in the end names the write that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from crossfade.fields import Base64, Json
from marketplace.population import Population

Make: TypeAlias = Callable[[Population], Any]
"""Makes a value from the rows that are known."""

_WORDS = ("Vintage camera", "50% off", "snake_case lamp", "Größe XL", "O'Hara’s violin 🎻", "着物", "teapot")
_TAGS = ("new", "sale", "eco", "gift", "100%", "a_b", "it's", "日本", "🚲")


def text(known: Population) -> str:
    """A new text every time."""
    return f"{known.rng.choice(_WORDS)} #{known.number()}"


def text_or_null(known: Population) -> str | None:
    """A new text, or null."""
    return None if known.rng.random() < 0.4 else text(known)


def money(known: Population) -> Decimal:
    """A new amount every time, with cents."""
    return Decimal(known.number() * 7 + 1).scaleb(-2)


def amount(known: Population) -> Decimal:
    """More digits than a float can hold."""
    return Decimal(known.number()) + Decimal("0.123456789012345")


def amount_or_null(known: Population) -> Decimal | None:
    """A new amount, or null."""
    return None if known.rng.random() < 0.25 else amount(known)


def moment(known: Population) -> datetime:
    """A new time every time, never on a whole second."""
    number = known.number()
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=number, milliseconds=1 + number % 999)


def moment_or_null(known: Population) -> datetime | None:
    """A new time, or null."""
    return None if known.rng.random() < 0.25 else moment(known)


def document(known: Population) -> Json:
    """A JSON document."""
    number = known.number()
    choices: tuple[Any, ...] = (
        {"n": number, "nested": {"list": [1, 2.5, None, True], "text": "50% of a_b"}},
        [number, {"emoji": "🧵", "empty": "", "big": 2**53}],
        {},
    )
    return Json(known.rng.choice(choices))


def tags(known: Population) -> list[str]:
    """A few tags, or none."""
    return known.rng.sample(_TAGS, known.rng.randrange(4))


def integers(known: Population) -> list[int]:
    """A few integers, or none."""
    return [known.rng.randrange(-5, 10_000) for _ in range(known.rng.randrange(4))]


def some_bytes(known: Population) -> Base64 | None:
    """Bytes, or null."""
    return None if known.rng.random() < 0.3 else Base64.encode(known.rng.randbytes(12))


def big(known: Population) -> int:
    """An integer that a float may not hold."""
    return known.rng.choice((0, 2**53 + 1, 2**62 + known.number()))


def fraction(known: Population) -> float:
    """A float."""
    return known.rng.choice((0.1, -1.5, 1e-9, 1.0, 123456.789, known.rng.random()))


def yes_or_no(known: Population) -> bool:
    """A boolean."""
    return known.rng.random() < 0.5


def one_of(*choices: Any) -> Make:
    """Make a value that is one of `choices`."""
    return lambda known: known.rng.choice(choices)
