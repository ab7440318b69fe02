"""Options of `crossfade backfill` that do not go together."""

from __future__ import annotations

import pytest

from crossfade.cli.backfill import backfill
from crossfade.errors import ConfigurationError


def test_only_one_thing_at_a_time() -> None:
    """What copies nothing is asked for alone."""
    with pytest.raises(ConfigurationError, match=r"^--status and --pause do not go together$"):
        backfill(pause=True, status=True)
    with pytest.raises(
        ConfigurationError, match=r"^--status copies nothing, so there are no indexes to defer$"
    ):
        backfill(status=True, defer_indexes=True)
