"""What a process is told, and which databases a drill may touch."""

from pathlib import Path

import pytest

from crossfade.drill.lane import Order
from crossfade.drill.order import Part, ProcessOrder, StoreOrder
from crossfade.drill.stores import check_allowed
from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError
from crossfade.stages import Side

LEGACY = Dsn.parse("postgresql://me:secret@db.example:6432/old?schema=a%22b&sslmode=require&unknown=1")
TARGET = Dsn.parse("postgresql://me@db.example/new")


def test_an_order_survives_its_journey() -> None:
    """Passwords, schemas and parameters of a URL included."""
    order = ProcessOrder(
        part=Part.PSQL,
        name="kill-1-psql",
        number=7,
        directory=Path("/somewhere"),
        legacy=StoreOrder(LEGACY, "one"),
        target=StoreOrder(TARGET, "two"),
        start=Side.SQLALCHEMY,
        shared=Order.DESCENDING,
        psql=Path("/usr/bin/psql"),
        skew=-3.5,
        crash_at="open.begun",
    )

    assert order == ProcessOrder.from_json(order.to_json())


def test_a_database_is_allowed_by_its_host_and_name() -> None:
    """Both of them must be named."""
    check_allowed([LEGACY, TARGET], ["db.example/old", "db.example/new"])

    with pytest.raises(ConfigurationError, match=r"db\.example/new; if that is what you want, add --yes-on"):
        check_allowed([LEGACY, TARGET], ["db.example/old", "new"])


def test_the_refusal_holds_no_password() -> None:
    """It is printed."""
    with pytest.raises(ConfigurationError) as refusal:
        check_allowed([LEGACY, TARGET], [])

    assert "secret" not in str(refusal.value)
