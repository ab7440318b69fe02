"""A flag as a feature of an Unleash server, and how files and features differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crossfade.errors import FlagError
from crossfade.flags import Flag
from crossfade.flags.drift import Change, Standing, compare
from crossfade.flags.feature import Feature, Tag, export, owner_tag, pushed_tag, read_feature, strategy_of
from crossfade.stages import Stage

FILE = Flag(
    "User", Stage.SHADOW, 0.5, owner="accounts", description="People.", gates={"lag": 2.0}, source="User.yaml"
)
PLACE = "development"


def found(flag: Flag = FILE, *, on: bool = True, **strategy: Any) -> dict[str, Any]:
    """A feature as the admin API tells it."""
    return {
        "name": "crossfade.User",
        "description": flag.description,
        "environments": [
            {
                "name": PLACE,
                "enabled": on,
                "variants": [],
                "strategies": [strategy_of(flag) | {"id": "s1", "disabled": False} | strategy],
            },
            {"name": "production", "enabled": False, "strategies": []},
        ],
    }


def read(told: dict[str, Any], *tags: Tag, place: str = PLACE) -> Feature:
    return read_feature(told, [Tag("owner", "accounts"), Tag("simple", "x"), *tags], place, "the server")


def pushed(told: dict[str, Any]) -> Feature:
    """A feature that nobody has changed since."""
    return read(told, pushed_tag(PLACE, read(told).fingerprint))


def test_a_feature_says_what_was_pushed() -> None:
    """All of it, and where it was read."""
    feature = pushed(found())

    assert FILE == feature.flag
    assert feature.flag is not None
    assert "the server crossfade.User in development" == feature.flag.source
    assert not feature.has_drifted
    assert [Standing.SAME] == [one.standing for one in compare({"User": FILE}, {"User": feature})]


def test_toggled_off_it_asks_for_off() -> None:
    """Whatever its payload says; that is known as well."""
    feature = read(found(on=False))

    assert replace(FILE, stage=Stage.OFF) == feature.flag
    assert Stage.SHADOW is feature.payload_stage


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ({"disabled": True}, "its strategy is disabled"),
        ({"constraints": [{"contextName": "userId"}]}, "its strategy has constraints or segments"),
        ({"segments": [3]}, "its strategy has constraints or segments"),
        (
            {"parameters": {"rollout": "50"}},
            "its strategy 'flexibleRollout' does not admit everybody but 50 %",
        ),
        (
            {"name": "userWithId", "parameters": {"userIds": "7"}},
            "its strategy 'userWithId' does not admit everybody",
        ),
        ({"variants": []}, "it has 0 variants instead of one with the payload"),
        ({"variants": [{"payload": {"value": "on"}}]}, "the payload cannot be used: it is not JSON"),
        ({"variants": [{"name": "plain"}]}, "the payload cannot be used: it is not JSON"),
    ],
)
def test_what_no_file_can_say_is_named(strategy: dict[str, Any], problem: str) -> None:
    """It is never taken for something else; toggled off it asks for `off` all the same."""
    feature = read(found(**strategy))

    assert feature.flag is None
    assert feature.problem.startswith(problem)
    assert read(found(**strategy, on=False)).flag in (
        replace(FILE, stage=Stage.OFF),
        Flag("User", owner="accounts", description="People."),
    )


def test_several_strategies_and_none_are_named() -> None:
    """Strategies are alternatives: with two, nobody can say what the fleet is asked for."""
    two, none = found(), found()
    two["environments"][0]["strategies"] *= 2
    none["environments"][0]["strategies"] = []

    assert "it has 2 strategies" == read(two).problem
    assert "it has no strategy" == read(none).problem


def test_variants_of_the_environment_count_where_the_strategy_has_none() -> None:
    """As older servers keep them."""
    told = found(variants=[])
    told["environments"][0]["variants"] = strategy_of(FILE)["variants"]

    assert FILE == read(told).flag


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Others."},
        {"on": False},
        {"parameters": {"rollout": "99", "stickiness": "default"}},
        {"variants": strategy_of(replace(FILE, stage=Stage.LIVE))["variants"]},
        {"disabled": True},
    ],
)
def test_a_change_of_anything_that_matters_is_seen(change: dict[str, Any]) -> None:
    """By the fingerprint that was noted with the last push."""
    base = pushed(found())
    told = found(
        FILE, **{"on": True, **{key: value for key, value in change.items() if key != "description"}}
    )
    told["description"] = change.get("description", told["description"])

    changed = read_feature(told, base.tags, PLACE, "")

    assert changed.has_drifted
    assert not base.has_drifted


def test_environments_are_noted_apart() -> None:
    """A push to one says nothing of another."""
    base = pushed(found())

    assert base.pushed == base.fingerprint
    assert read_feature(found(), base.tags, "production", "").pushed is None
    assert read_feature(found(), base.tags, "production", "").is_bare


@pytest.mark.parametrize("name", ["development", "e" * 100])
def test_a_note_fits_into_a_tag(name: str) -> None:
    """However long an environment's name is."""
    assert 50 >= len(pushed_tag(name, pushed(found()).fingerprint).value)


def test_who_has_changed_what() -> None:
    """The file since the last push, or somebody on the server."""
    live = replace(FILE, stage=Stage.LIVE)
    mine = compare({"User": live}, {"User": pushed(found())})[0]
    theirs = compare({"User": FILE}, {"User": read(found(live), pushed_tag(PLACE, "0" * 16))})[0]

    assert (Standing.AHEAD, (Change("stage", "shadow", "live"),)) == (mine.standing, mine.changes)
    assert (Standing.DRIFTED, (Change("stage", "live", "shadow"),)) == (theirs.standing, theirs.changes)
    assert "stage live there, shadow in the file" == theirs.what


def test_a_toggle_is_told_as_one() -> None:
    """A person who has clicked is to recognise it."""
    off = compare({"User": FILE}, {"User": read(found(on=False))})[0]

    assert (Change("stage", "off (toggled off)", "shadow"),) == off.changes


def test_files_without_feature_and_features_without_file() -> None:
    """Each is told; a model that has neither is not."""
    flags = {"Order": replace(FILE, model="Order"), "Item": Flag("Item")}
    features = {"User": pushed(found())}

    assert {"Order": Standing.NEW, "User": Standing.UNKNOWN} == {
        one.model: one.standing for one in compare(flags, features)
    }


def test_an_owner_that_is_no_tag_is_refused() -> None:
    """Before anything is written."""
    with pytest.raises(FlagError, match=r"User.yaml: owner 'x' must have from 2 to 50 characters"):
        owner_tag(replace(FILE, owner="x"))


def test_an_export_is_as_a_push_leaves_it() -> None:
    """So that a server that has imported it is in step."""
    document = export([FILE], PLACE, "default")
    tags = [Tag(tag["tagType"], tag["tagValue"]) for tag in document["featureTags"]]
    told = found(**document["featureStrategies"][0])
    feature = read_feature(told, tags, PLACE, "")

    assert not feature.has_drifted
    assert FILE == feature.flag
