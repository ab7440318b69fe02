"""Results in a form that is equal only if they are equal to the caller: types, digits and time zones included."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from crossfade.fields import Base64
from crossfade.records import Record


def canonical(value: Any) -> Any:
    """Return `value` in plain, comparable terms."""
    match value:
        case Record():
            return {name: canonical(one) for name, one in value.__dict__.items()}
        case Mapping():
            return {str(name): canonical(one) for name, one in value.items()}
        case list() | tuple():
            return [canonical(one) for one in value]
        case Base64():
            return ("bytes", value.decode())
        case datetime():
            return ("time", value.isoformat())
        case Decimal():
            return ("decimal", str(value))
        case float() | bool():
            return (type(value).__name__, repr(value))
        case _:
            return value
