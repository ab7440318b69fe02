"""What people set up in a real Unleash server, and what is asked of the models then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from puppet import Provider

from crossfade.flags import Flag
from crossfade.stages import Stage
from flag_readers import Ear, flag_that, until
from unleash import Unleash, variant

GOOD = {"stage": "shadow", "sample": 0.5}
"""What the flag asks for before something about it goes wrong."""

PAYLOADS: Mapping[str, tuple[Mapping[str, object] | str, str]] = {
    "an unknown stage": ({"stage": "warp"}, "unknown stage 'warp'"),
    "no stage": ({"sample": 0.5}, "stage must be given"),
    "an unknown key": ({"stage": "live", "speed": 1}, "unknown key 'speed'"),
    "an unknown threshold": ({"stage": "live", "gates": {"luck": 1}}, "unknown threshold 'luck'"),
    "a share beyond all": ({"stage": "live", "canary": 2}, "canary must be from 0 to 1"),
    "a list": ("[]", "it must be an object"),
}

SPLITTING: Mapping[str, tuple[dict[str, Any], str]] = {
    "half of the users": (
        {"strategy": "flexibleRollout", "parameters": {"rollout": "50"}},
        "a share of users",
    ),
    "random stickiness": (
        {"strategy": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "random"}},
        "a share of users",
    ),
    "some users": (
        {"constraints": [{"contextName": "userId", "operator": "IN", "values": ["1"]}]},
        "looks at userId",
    ),
    "some hosts": ({"strategy": "remoteAddress", "parameters": {"IPs": "10.0.0.1"}}, "'remoteAddress'"),
    "an operator for numbers": (
        {"constraints": [{"contextName": "appName", "operator": "NUM_GT", "value": "1"}]},
        "the operator NUM_GT",
    ),
}

#                     set up                                                                    asked for
ADMITTED: Mapping[str, tuple[dict[str, Any], Stage]] = {
    "everybody": ({}, Stage.LIVE),
    "a rollout to all": ({"strategy": "flexibleRollout", "parameters": {"rollout": "100"}}, Stage.LIVE),
    "a rollout to all, at random": (
        {"strategy": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "random"}},
        Stage.LIVE,
    ),
    "a rollout to nobody": ({"strategy": "flexibleRollout", "parameters": {"rollout": "0"}}, Stage.OFF),
    "from a day that is past": (
        {"constraints": [{"contextName": "currentTime", "operator": "DATE_AFTER", "value": "2020-01-01T00:00:00Z"}]},
        Stage.LIVE,
    ),
    "from a day to come": (
        {"constraints": [{"contextName": "currentTime", "operator": "DATE_AFTER", "value": "2999-01-01T00:00:00Z"}]},
        Stage.OFF,
    ),
    "this application": (
        {"constraints": [{"contextName": "appName", "operator": "IN", "values": ["shop"]}]},
        Stage.LIVE,
    ),
    "another application": (
        {"constraints": [{"contextName": "appName", "operator": "IN", "values": ["billing"]}]},
        Stage.OFF,
    ),
}  # fmt: skip


async def test_a_payload_is_a_flag(unleash: Unleash, provider: Provider) -> None:
    """Everything that a payload can say arrives; a model without a feature has no flag."""
    payload = {
        "stage": "live",
        "sample": 0.25,
        "canary": 0.1,
        "cohort": "größe",
        "gates": {"lag": 2},
        "guard": {"errors": 0.1},
    }
    await unleash.flag("Book", payload)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        current = dict(flags.current())

    expected = Flag(
        "Book", Stage.LIVE, sample=0.25, canary=0.1, cohort="größe", gates={"lag": 2}, guard={"errors": 0.1}
    )
    assert {"Book": expected} == current
    assert [""] == ear.service
    assert [] == ear.rejections


async def test_a_flip_arrives_in_about_a_second(unleash: Unleash, provider: Provider) -> None:
    """Asked once a second, a flip is seen soon, and switching off just as soon."""
    await unleash.flag("Book", GOOD)
    await unleash.settle()

    async with provider(unleash.server, Ear(), poll_seconds=1.0) as flags:
        await unleash.flag("Book", {"stage": "live"})
        began = monotonic()
        await flag_that(flags, lambda flag: flag.stage is Stage.LIVE)
        flipped = monotonic()
        await unleash.switch("Book", on=False)
        await flag_that(flags, lambda flag: flag.stage is Stage.OFF)
        ended = monotonic()

    print(f"flip {flipped - began:.2f} s, off {ended - flipped:.2f} s")  # noqa: T201 - figures for people
    assert flipped - began < 5
    assert ended - flipped < 5


async def test_switched_off_is_off_and_keeps_the_rest(unleash: Unleash, provider: Provider) -> None:
    """A feature that is switched off asks for `off`, in its cohort as before; switched on again it asks as before."""
    await unleash.flag("Book", {"stage": "live", "cohort": "shelf", "sample": 0.5})
    await unleash.settle()

    async with provider(unleash.server, Ear()) as flags:
        asked = flags.current()["Book"]
        await unleash.switch("Book", on=False)
        off = await flag_that(flags, lambda flag: flag.stage is Stage.OFF)
        await unleash.switch("Book", on=True)
        again = await flag_that(flags, lambda flag: flag.stage is Stage.LIVE)

    assert Flag("Book", Stage.OFF, cohort="shelf", sample=0.5) == off
    assert asked == again


async def test_environments_are_apart(unleash: Unleash, provider: Provider) -> None:
    """Each process follows the environment of its token."""
    await unleash.flag("Book", {"stage": "live"}, environment="development")
    await unleash.flag("Book", {"stage": "dualwrite"}, environment="production")
    await unleash.settle()

    async with (
        provider(unleash.server, Ear()) as development,
        provider(unleash.server, Ear(), environment="production") as production,
    ):
        asked = [flags.current()["Book"].stage for flags in (development, production)]

    assert [Stage.LIVE, Stage.DUALWRITE] == asked


@pytest.mark.parametrize("case", ADMITTED)
async def test_whom_a_strategy_admits(unleash: Unleash, provider: Provider, case: str) -> None:
    """All or nobody, by the share, the application or the time, is the same in the whole fleet and is followed."""
    setting, stage = ADMITTED[case]
    await unleash.flag("Book", {"stage": "live"}, **setting)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        asked = flags.current()["Book"]

    assert (stage, True) == (asked.stage, asked.confirmed)
    assert [] == ear.rejections


@pytest.mark.parametrize("case", SPLITTING)
async def test_what_would_split_the_fleet_is_refused(
    unleash: Unleash, provider: Provider, tmp_path: Path, case: str
) -> None:
    """A feature for some and not for others asks for nothing: a fresh process has no flag, others keep the last."""
    setting, words = SPLITTING[case]
    await unleash.flag("Book", GOOD)
    ear, fresh = Ear(), Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        await unleash.flag("Book", {"stage": "live"}, **setting)
        kept = await flag_that(flags, lambda flag: not flag.confirmed)
        await unleash.settle()
        async with provider(unleash.server, fresh, cache=tmp_path / "new") as others:
            nothing = dict(others.current())

    assert (Stage.SHADOW, 0.5) == (kept.stage, kept.sample)
    assert {} == nothing
    for heard in (ear, fresh):
        assert words in heard.rejections[-1]
        assert heard.rejections[-1].startswith("crossfade.Book: ")


async def test_payloads_that_cannot_be_used(unleash: Unleash, provider: Provider) -> None:
    """Each is reported once; the last good flag stays, unconfirmed, until the payload is mended."""
    await unleash.flag("Book", GOOD)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        for case, (payload, words) in PAYLOADS.items():
            await unleash.flag("Book", payload)
            await until(lambda words=words: any(words in rejection for rejection in ear.rejections))
            kept = flags.current()["Book"]
            assert (Stage.SHADOW, 0.5, False) == (kept.stage, kept.sample, kept.confirmed), case
        await unleash.flag("Book", {"stage": "live"})
        mended = await flag_that(flags, lambda flag: flag.confirmed)

    assert all(1 == sum(words in rejection for rejection in ear.rejections) for _, words in PAYLOADS.values())
    assert Flag("Book", Stage.LIVE) == mended


async def test_a_feature_that_hands_out_nothing(unleash: Unleash, provider: Provider) -> None:
    """On, and without a variant or with several: nothing is asked. Off, whatever else: `off` is asked."""
    await unleash.create("Book")
    await unleash.strategy("Book", None)
    await unleash.switch("Book", on=True)
    await unleash.create("Genre")
    several = [variant(GOOD, "a", 500), variant({"stage": "live"}, "b", 500)]
    await unleash.strategy("Genre", None, variants=several)
    await unleash.switch("Genre", on=True)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        on = dict(flags.current())
        await unleash.switch("Genre", on=False)
        off = await flag_that(flags, lambda flag: flag.model == "Genre")

    assert {} == on
    assert Stage.OFF is off.stage
    assert any("no variant with a payload" in rejection for rejection in ear.rejections)
    assert any("several variants" in rejection for rejection in ear.rejections)


async def test_a_feature_that_was_just_made(unleash: Unleash, provider: Provider, tmp_path: Path) -> None:
    """The server calls it disabled, as one whose strategies were taken away; but nobody has switched it off."""
    await unleash.create("Book")
    await unleash.flag("Genre", GOOD)
    await unleash.settle()
    ear, fresh = Ear(), Ear()

    async with provider(unleash.server, ear) as flags:
        made = dict(flags.current())
        place = "/projects/default/features/crossfade.Genre/environments/development/strategies"
        (strategy,) = await unleash.call("GET", place)
        await unleash.call("DELETE", f"{place}/{strategy['id']}")
        cleared = await flag_that(flags, lambda flag: not flag.confirmed)
        async with provider(unleash.server, fresh, cache=tmp_path / "new") as others:
            nothing = dict(others.current())

    assert {"Genre"} == set(made)
    assert Stage.SHADOW is cleared.stage
    assert {} == nothing
    assert all("it has no strategy" in rejection for rejection in ear.rejections)
    assert {"crossfade.Book", "crossfade.Genre"} == {line.split(":")[0] for line in ear.rejections}


async def test_a_feature_that_depends_on_another(unleash: Unleash, provider: Provider) -> None:
    """It would come and go with the other, which may be for some users only; so it is refused."""
    await unleash.flag("Genre", GOOD)
    await unleash.flag("Book", GOOD)
    await unleash.call(
        "POST", "/projects/default/features/crossfade.Book/dependencies", {"feature": "crossfade.Genre"}
    )
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        asked = set(flags.current())
    await unleash.delete("Book")  # the server deletes no feature that others depend on

    assert {"Genre"} == asked
    assert "it depends on another feature" in ear.rejections[0]


async def test_segments_count_as_constraints(unleash: Unleash, provider: Provider) -> None:
    """A segment of applications is followed, one of users is refused."""
    ear = Ear()
    asked = {}
    for model, field in (("Book", "appName"), ("Genre", "userId")):
        constraint = {"contextName": field, "operator": "IN", "values": ["shop"]}
        segment = await unleash.call(
            "POST", "/segments", {"name": f"{field} for {model}", "constraints": [constraint]}
        )
        await unleash.flag(model, {"stage": "live"})
        place = f"/projects/default/features/crossfade.{model}/environments/development/strategies"
        (strategy,) = await unleash.call("GET", place)
        await unleash.call("PUT", f"{place}/{strategy['id']}", strategy | {"segments": [segment["id"]]})
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        asked = {model: flag.stage for model, flag in flags.current().items()}

    assert {"Book": Stage.LIVE} == asked
    assert "looks at userId" in ear.rejections[0]


async def test_a_feature_that_is_deleted(unleash: Unleash, provider: Provider, tmp_path: Path) -> None:
    """Its flag stays and nobody stands behind it; a process that has never seen it has none."""
    await unleash.flag("Book", GOOD)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        await unleash.delete("Book")
        kept = await flag_that(flags, lambda flag: not flag.confirmed)
        async with provider(unleash.server, Ear(), cache=tmp_path / "new") as others:
            nothing = dict(others.current())

    assert Stage.SHADOW is kept.stage
    assert ["crossfade.Book: the feature is gone; what it asked for last stays"] == ear.rejections
    assert {} == nothing


async def test_a_feature_of_no_model(unleash: Unleash, provider: Provider) -> None:
    """A misspelt name is reported; without a schema the models are those of the features."""
    await unleash.flag("Bok", GOOD)
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags, provider(unleash.server, Ear(), models=None) as others:
        asked = set(flags.current()), set(others.current())

    assert (set(), {"Bok"}) == asked
    assert ["crossfade.Bok: unknown model 'Bok'; the schema has Book, Genre"] == ear.rejections


async def test_other_teams_features_are_none_of_its_business(unleash: Unleash, provider: Provider) -> None:
    """Features of other names are neither looked at nor kept."""
    await unleash.flag("Book", GOOD)
    await unleash.call("POST", "/projects/default/features", {"name": "checkout", "type": "release"})
    ear = Ear()
    await unleash.settle()

    async with provider(unleash.server, ear) as flags:
        await until(flags._remembered.path.exists)
        kept = flags._remembered.path.read_text()

    assert "crossfade.Book" in json.loads(kept)["body"]
    assert "checkout" not in kept
    assert [] == ear.rejections
