"""A process whose wall clock is wrong: in a process of its own, because that is what it changes."""

import subprocess
import sys

SKEWED = """
import datetime, time
from crossfade import operation
from crossfade.drill import clock
real, steady = time.time(), time.monotonic()
clock.skew(600.0)
now = operation.utc_now()
assert 590 < now.timestamp() - real < 660, now
assert type(now) is not operation.datetime and isinstance(now, operation.datetime)
assert 590 < time.time() - real < 660
assert time.monotonic() - steady < 60
assert operation.datetime(2026, 1, 1).year == 2026
assert operation.CuidFactory()() > ""
print("skewed")
"""


def test_every_module_sees_the_wrong_time_of_day_and_the_right_duration() -> None:
    """Plain datetimes stay plain, so that drivers and records take them."""
    done = subprocess.run([sys.executable, "-c", SKEWED], capture_output=True, text=True, check=False)

    assert (0, "skewed\n") == (done.returncode, done.stdout), done.stderr
