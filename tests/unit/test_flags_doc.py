"""The page about flags: what it shows works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from openfeature import api
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from crossfade.flags import Flag, FlagProvider
from crossfade.flags.document import parse_flag
from crossfade.flags.payload import from_payload
from crossfade.flags.remembered import KEPT_SECONDS
from crossfade.settings import Settings
from crossfade.stages import Stage
from flag_readers import Ear, flag_that

PAGE = (Path(__file__).parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")


def block(language: str, after: str = "") -> str:
    """The first block of code after some words."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE[PAGE.index(after) :], re.DOTALL)
    assert found is not None
    return found.group(1)


def asking(stage: str | None) -> InMemoryProvider:
    """A service that asks for a stage, or has no such flag."""
    if stage is None:
        return InMemoryProvider({})
    payload = {"stage": stage, "sample": 0.5}
    return InMemoryProvider({"crossfade.Book": InMemoryFlag("asked", {"asked": payload})})


async def test_the_openfeature_provider() -> None:
    """It follows a service, and doubts what the service does not say any more. Its class has some thirty lines."""
    namespace: dict[str, Any] = {}
    code = block("python", "<!-- openfeature -->")
    exec(code, namespace)  # noqa: S102 - the page is what is tested
    ear = Ear()
    api.set_provider(asking("shadow"))
    made: FlagProvider = namespace["OpenFeatureFlags"](api.get_client(), ["Book", "Genre"], ear, 0.01)

    async with made as flags:
        first = dict(flags.current())
        changes = flags.changes()
        api.set_provider(asking("live"))
        flipped = await flag_that(flags, lambda flag: flag.stage is Stage.LIVE)
        api.set_provider(asking(None))
        doubted = await flag_that(flags, lambda flag: not flag.confirmed)
        api.set_provider(asking("warp"))
        api.set_provider(asking("live"))
        again = await flag_that(flags, lambda flag: flag.confirmed)
    rest = [flag async for flag in changes]
    api.shutdown()

    assert {"Book": Flag("Book", Stage.SHADOW, sample=0.5)} == first
    assert [Stage.LIVE] * 3 == [flag.stage for flag in (flipped, doubted, again)]
    assert again == rest[-1]
    assert {"crossfade.Book", "crossfade.Genre"} == {line.split(":")[0] for line in ear.rejections}


def test_the_file_and_the_payload_ask_for_the_same() -> None:
    """The two examples are the same flag, but for what only a file says."""
    file = parse_flag(Path("Order.yaml"), block("yaml").encode(), ["Order"])
    payload = from_payload("Order", block("json"), "page")

    assert (file.stage, file.sample, file.canary, file.cohort) == (
        payload.stage,
        payload.sample,
        payload.canary,
        payload.cohort,
    )
    assert (dict(file.gates), dict(file.guard)) == (dict(payload.gates), dict(payload.guard))
    assert json.loads(block("json"))["stage"] == "shadow"


def test_every_variable_is_read() -> None:
    """The variables in the table are those of the settings."""
    named = set(re.findall(r"`(CROSSFADE_UNLEASH_\w+)`", PAGE))
    values = {
        "CROSSFADE_UNLEASH_URL": "https://unleash.example.com/api",
        "CROSSFADE_UNLEASH_TOKEN": "default:staging.hush",
        "CROSSFADE_UNLEASH_ENVIRONMENT": "staging",
        "CROSSFADE_UNLEASH_APP_NAME": "shop",
        "CROSSFADE_UNLEASH_ADMIN_TOKEN": "*:*.hush",
    }

    settings = Settings.from_environment(values)

    assert named == set(values)
    assert set(values.values()) <= {
        getattr(settings, name.removeprefix("CROSSFADE_").lower()) for name in values
    }
    assert "hush" not in repr(settings)


def test_the_page_tells_how_long_a_cache_counts() -> None:
    """The figures on the page are those of the code."""
    assert 3_600.0 == KEPT_SECONDS
    assert "older than an hour" in PAGE
