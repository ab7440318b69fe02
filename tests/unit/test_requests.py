"""What of a change of requests is refused, and what is only told."""

from __future__ import annotations

import pytest

from crossfade.cli.requests import judge
from crossfade.flags import Flag
from crossfade.planner import Planner, Refusal, Rule
from crossfade.stages import Stage
from small_schema import SMALL

OFF, DUALWRITE, SHADOW, LIVE, RAMPDOWN, COMPLETE = Stage
PLANNER = Planner(SMALL)  # Author is the parent of Book


def flags(author: Stage, book: Stage, cohort: str | None = None) -> dict[str, Flag]:
    return {"Author": Flag("Author", author, cohort=cohort), "Book": Flag("Book", book, cohort=cohort)}


def check(asked: dict[str, Flag]) -> list[Refusal]:
    return PLANNER.check_requests(
        {model: flag.stage for model, flag in asked.items()},
        {model: flag.cohort for model, flag in asked.items()},
    )


@pytest.mark.parametrize(
    ("before", "after", "refused", "told"),
    [
        pytest.param(flags(OFF, OFF), flags(OFF, DUALWRITE), [Rule.PARENTS], [], id="into it"),
        pytest.param(flags(OFF, DUALWRITE), flags(OFF, SHADOW), [Rule.PARENTS], [], id="further into it"),
        pytest.param(flags(OFF, SHADOW), flags(OFF, DUALWRITE), [], [Rule.PARENTS], id="back, not out of it"),
        pytest.param(flags(OFF, SHADOW), flags(OFF, OFF), [], [], id="out of it"),
        pytest.param(
            flags(SHADOW, SHADOW), flags(OFF, SHADOW), [], [Rule.PARENTS], id="into it by a step back"
        ),
        pytest.param(
            flags(COMPLETE, OFF), flags(COMPLETE, DUALWRITE), [], [Rule.RELATED], id="forward, half-way out"
        ),
        pytest.param(flags(COMPLETE, OFF), flags(COMPLETE, OFF), [], [], id="unchanged"),
        pytest.param(flags(OFF, OFF), flags(COMPLETE, OFF), [Rule.NEEDED, Rule.RELATED], [], id="two rules"),
        pytest.param(
            flags(SHADOW, SHADOW, "shelf"),
            flags(LIVE, SHADOW, "shelf"),
            [Rule.COHORT],
            [],
            id="a split cohort",
        ),
        pytest.param(
            flags(LIVE, SHADOW, "shelf"), flags(LIVE, LIVE, "shelf"), [], [], id="a cohort made whole"
        ),
        pytest.param(
            flags(LIVE, LIVE, "shelf"),
            flags(LIVE, SHADOW, "shelf"),
            [],
            [Rule.COHORT],
            id="split by a step back",
        ),
        pytest.param(
            flags(LIVE, SHADOW), flags(LIVE, SHADOW, "shelf"), [], [Rule.COHORT], id="declared apart"
        ),
    ],
)
def test_only_what_a_step_forward_brings_about_is_refused(
    before: dict[str, Flag], after: dict[str, Flag], refused: list[Rule], told: list[Rule]
) -> None:
    """The way back is always open, and so is the way out."""
    found = judge(check, before, after)

    assert (refused, told) == tuple([refusal.rule for refusal in part] for part in found)
