"""A wrong wall clock for one process: every module that asks for the time of day is told another one.

The monotonic clock is left alone, as it is on a machine whose time of day is wrong. What the database says the time is
does not change either.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any


class _SkewedMeta(type(datetime)):  # type: ignore[misc]
    """Plain datetimes count as instances, since that is what the skewed class makes."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, datetime)


def skewed_datetime(seconds: float) -> type[datetime]:
    """A `datetime` whose present is `seconds` ahead. What it gives are plain datetimes."""
    ahead = timedelta(seconds=seconds)

    class Skewed(datetime, metaclass=_SkewedMeta):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return datetime(*args, **kwargs)  # noqa: DTZ001 - whatever zone was asked for

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.now(dt.UTC).replace(tzinfo=None) + ahead

        @classmethod
        def today(cls) -> Any:
            return datetime.now() + ahead  # noqa: DTZ005 - that is what `today` means

    return Skewed


def skew(seconds: float) -> None:
    """Set the clock of this process `seconds` ahead, in every module that is loaded now and later."""
    real_time, real_time_ns = time.time, time.time_ns
    shifted: dict[int, Any] = {
        id(datetime): skewed_datetime(seconds),
        id(real_time): lambda: real_time() + seconds,
        id(real_time_ns): lambda: real_time_ns() + int(seconds * 1e9),
    }
    modules = [time, dt]
    modules += [module for name, module in sys.modules.items() if name.startswith("crossfade.")]
    for module in modules:
        if module.__name__ == __name__:
            continue
        for name, value in list(vars(module).items()):
            if id(value) in shifted and value in (datetime, real_time, real_time_ns):
                setattr(module, name, shifted[id(value)])
