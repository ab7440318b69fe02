"""The one sentence about where a model stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crossfade.cli.explaining import Facts, sentence
from crossfade.flags import Flag
from crossfade.gates import Gate, GateName
from crossfade.stages import Stage
from crossfade.store.record import Record
from crossfade.store.requests import Requested

SHADOW = Record("User", Stage.SHADOW)
LIVE = Flag("User", Stage.LIVE, source="User.yaml")
LAG = Gate("User", GateName.LAG, "3 captured keys wait, the oldest for 9.0 s", "wait for the reconciler")
PROOF = Gate("User", GateName.COMPARISONS, "≤ 0.05 (find_many, 60 keys)", "3,000 more keys")
FINE = Gate("User", GateName.ERRORS, "0 of 90 calls to the new side failed", "")


def asked(stage: Stage, held: str = "", wanted: Stage | None = None) -> Requested:
    return Requested("User", stage, "flags", held=held, wanted=wanted)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param(
            {},
            "User stands at shadow, and nobody asks for anything; `crossfade flip User live` would move it on, once a"
            " process conducts.",
            id="nobody asks and nobody conducts",
        ),
        pytest.param(
            {"leads": True, "flag": replace(LIVE, stage=Stage.SHADOW), "gates": [FINE]},
            "User stands at shadow, which is what is asked for; `crossfade flip User live` would move it on.",
            id="at rest",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.SHADOW), "gates": [FINE, LAG]},
            "User stands at shadow, which is what is asked for; `crossfade flip User live` would move it on once its"
            " gate lag holds (3 captured keys wait, the oldest for 9.0 s; wait for the reconciler).",
            id="at rest before a shut gate",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.SHADOW), "gates": [LAG, PROOF]},
            "User stands at shadow, which is what is asked for; `crossfade flip User live` would move it on once its"
            " gates lag and comparisons hold.",
            id="at rest before shut gates",
        ),
        pytest.param(
            {"record": replace(SHADOW, stage=Stage.COMPLETE), "flag": replace(LIVE, stage=Stage.COMPLETE)},
            "User stands at complete, which is what is asked for: the end of the way, which `crossfade finalize User`"
            " makes final.",
            id="at the end",
        ),
        pytest.param(
            {"record": replace(SHADOW, stage=Stage.COMPLETE, final=True)},
            "User stands at complete for good: the move was made final, and nothing moves it any more.",
            id="final",
        ),
        pytest.param(
            {"record": replace(SHADOW, moving_to=Stage.LIVE), "leads": True},
            "User is being handed over from shadow to live.",
            id="half-way",
        ),
        pytest.param(
            {"record": replace(SHADOW, moving_to=Stage.LIVE)},
            "User is being handed over from shadow to live, but no process conducts; the next one that does completes"
            " or undoes it.",
            id="left half-way",
        ),
        pytest.param(
            {"record": replace(SHADOW, forced=True), "leads": True, "flag": LIVE},
            "User stands at shadow because it was forced back, and stays until what was lost is listed: run"
            " `crossfade rollback User --force` again when the target store answers.",
            id="forced",
        ),
        pytest.param(
            {"flag": LIVE},
            "User stands at shadow and is asked for live; but no process conducts: start `crossfade conduct`, or an"
            " application that may lead.",
            id="nobody conducts",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.LIVE), "gates": [FINE, PROOF]},
            "User stands at shadow and is asked for live; it waits before live because its comparisons do not prove"
            " enough: ≤ 0.05 (find_many, 60 keys); 3,000 more keys.",
            id="a shut gate",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.LIVE, "of Item (off)", Stage.LIVE), "gates": [PROOF]},
            "User stands at shadow and is asked for live; it waits before live because of Item (off).",
            id="held by the leader",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.LIVE, "of Item (off)", Stage.SHADOW), "gates": [FINE]},
            "User stands at shadow and is asked for live; nothing keeps it from live, which is the next step.",
            id="held before an earlier step",
        ),
        pytest.param(
            {
                "leads": True,
                "request": asked(Stage.LIVE),
                "record": replace(SHADOW, paused=True, by="guard", reason="12 % of calls failed"),
                "gates": [FINE],
            },
            "User stands at shadow and is asked for live; it takes no step forward because the guard walked it back:"
            " 12 % of calls failed; look into it, then run `crossfade resume User`.",
            id="walked back",
        ),
        pytest.param(
            {
                "leads": True,
                "request": asked(Stage.OFF),
                "record": replace(SHADOW, paused=True, by="guard", reason="12 % of calls failed"),
            },
            "User stands at shadow and is asked for off; nothing keeps it from dualwrite, which is the next step.",
            id="walked back and asked back",
        ),
        pytest.param(
            {"leads": True, "request": asked(Stage.OFF), "flag": LIVE},
            "User stands at shadow and is asked for off; nothing keeps it from dualwrite, which is the next step.",
            id="the leader has heard something else than the file says",
        ),
        pytest.param(
            {"request": asked(Stage.OFF), "flag": replace(LIVE, stage=Stage.SHADOW)},
            "User stands at shadow, which is what is asked for; `crossfade flip User live` would move it on, once a"
            " process conducts.",
            id="what a leader of long ago has heard does not count",
        ),
    ],
)
def test_one_sentence_says_why_and_what_would_move_it(facts: dict[str, Any], words: str) -> None:
    """Whatever the reason is."""
    assert words == sentence(Facts("User", facts.pop("record", SHADOW), **facts))
