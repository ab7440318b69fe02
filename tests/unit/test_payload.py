"""A flag as the payload of a variant, there and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import FlagError
from crossfade.flags import Flag
from crossfade.flags.payload import from_payload, to_payload
from crossfade.stages import Stage
from crossfade.thresholds import GateThresholds, GuardThresholds


def thresholds(kind: type[GateThresholds | GuardThresholds]) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries(
        {}, optional={name: st.floats(*bounds) for name, bounds in kind.bounds().items()}
    )


@given(
    stage=st.sampled_from(Stage),
    sample=st.floats(0, 1),
    canary=st.floats(0, 1),
    cohort=st.none() | st.text(min_size=1).map(str.strip).filter(bool),
    gates=thresholds(GateThresholds),
    guard=thresholds(GuardThresholds),
)
def test_a_payload_says_all_that_its_flag_asks_for(
    stage: Stage,
    sample: float,
    canary: float,
    cohort: str | None,
    gates: dict[str, float],
    guard: dict[str, float],
) -> None:
    """What was written is read again, to the last bit of a number."""
    flag = Flag("User", stage, sample, canary, cohort=cohort, gates=gates, guard=guard)

    assert flag == from_payload("User", to_payload(flag), "somewhere")


def test_the_same_flag_has_the_same_text() -> None:
    """Numbers are written as people write them, and thresholds by name."""
    one = Flag("User", Stage.SHADOW, 0.5, gates={"lag": 2.0, "comparisons": 0.01}, owner="team")
    other = Flag("User", Stage.SHADOW, 0.5, gates={"comparisons": 0.01, "lag": 2.0}, description="People.")

    assert (
        '{"stage": "shadow", "sample": 0.5, "canary": 0, "gates": {"comparisons": 0.01, "lag": 2}}'
        == to_payload(one)
        == to_payload(other)
    )


def test_a_stage_is_enough() -> None:
    """Everything else has its default."""
    assert Flag("User", Stage.LIVE) == from_payload("User", '{"stage": "live"}', "somewhere")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON (Expecting value at character 1)"),
        ("<html>", "it is not JSON"),
        ("[" * 60_000, "it is not JSON"),
        ("x" * 70_000, "it is longer than 64 KiB"),
        ("[]", "it must be an object"),
        ('"shadow"', "it must be an object"),
        ("{}", "stage must be given"),
        ('{"stage": "lvie"}', "unknown stage 'lvie'; stages are off, dualwrite"),
        ('{"stage": false}', "stage must be text, not false"),
        ('{"stage": "off", "stage": "live"}', "'stage' is given twice"),
        ('{"stage": "off", "colour": 1}', "unknown key 'colour'; keys are stage, sample"),
        ('{"stage": "off", "sample": 1.5}', "sample must be from 0 to 1, not 1.5"),
        ('{"stage": "off", "sample": "1"}', 'sample must be a number, not "1"'),
        ('{"stage": "off", "sample": true}', "sample must be a number, not true"),
        ('{"stage": "off", "sample": NaN}', "NaN is no number"),
        ('{"stage": "off", "sample": 1e999}', "sample must be a number, not one so large"),
        ('{"stage": "off", "sample": ' + "9" * 400 + "}", "sample must be a number, not one so large"),
        ('{"stage": "off", "canary": -0.1}', "canary must be from 0 to 1, not -0.1"),
        ('{"stage": "off", "cohort": " "}', 'cohort must be text, not " "'),
        ('{"stage": "off", "cohort": ["' + "x" * 60 + '"]}', 'cohort must be text, not ["xxx'),
        ('{"stage": "off", "gates": 3}', "gates must be an object"),
        (
            '{"stage": "off", "gates": {"lga": 3}}',
            "gates: unknown threshold 'lga'; thresholds are lag, comparisons",
        ),
        ('{"stage": "off", "gates": {"lag": -1}}', "gates: lag must be from 0 to 86400 seconds, not -1"),
        ('{"stage": "off", "guard": {"window": "10s"}}', 'guard.window must be a number, not "10s"'),
        ('{"stage": "off", "guard": {"rare": 0.1}}', "guard: unknown threshold 'rare'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(text: str, problem: str) -> None:
    """The place, and what is wrong there, on one line."""
    with pytest.raises(FlagError) as caught:
        from_payload("User", text, "crossfade.User")

    assert "crossfade.User" == caught.value.source
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)
    assert 300 > len(str(caught.value))


def test_a_payload_without_a_cohort_may_say_so() -> None:
    """A person writes null where a person means none."""
    assert from_payload("User", json.dumps({"stage": "off", "cohort": None}), "").cohort is None
