"""What happens to requests when the flag service is away, late, slow, wrong, or somebody else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import pytest
from puppet import Provider, Puppet

from crossfade.embedded.unleash import EmbeddedUnleash
from crossfade.flags import Flag
from crossfade.flags.remembered import KEPT_SECONDS, Remembered
from crossfade.stages import Stage
from flag_readers import Ear, flag_that, until
from unleash import Unleash, variant

GOOD = {"stage": "shadow", "sample": 0.5}
SILENT = "it does not answer, or fails"

#                 status  body  headers                                what is said of it
NONSENSE: Mapping[str, tuple[int, str, dict[str, str], str]] = {
    "a page": (200, "<html>Welcome</html>", {"Content_Type": "text/html"}, "is not JSON"),
    "a failure": (500, "oops", {}, SILENT),
    "an overload": (503, "busy", {}, "it answers 503"),
    "no such place": (404, "{}", {}, "it answers 404"),
    "a redirection": (302, "", {"Location": "http://127.0.0.1:1/login"}, "it answers 302"),
    "an empty object": (200, "{}", {}, "without features"),
    "a list": (200, "[]", {}, "without features"),
    "something cut off": (200, '{"version":2,"features":[{"name":"cross', {}, "is not JSON"),
    "features without names": (200, '{"version":2,"features":[1,2]}', {}, "a feature has no name"),
    "a refusal": (401, "{}", {}, "it refuses the token"),
    "another environment": (
        200,
        '{"version":2,"features":[],"query":{"environment":"production"}}',
        {},
        "answers for the environment 'production'",
    ),
    "nothing new, unasked": (304, "", {}, "it answers 304"),
    "nothing at all": (200, "", {}, "is not JSON"),
}  # fmt: skip


def answer(*models: str, payload: Mapping[str, object] = GOOD, **more: object) -> str:
    """What an Unleash server answers that has these features."""
    features = [
        {
            "name": f"crossfade.{model}",
            "type": "operational",
            "project": "default",
            "enabled": True,
            "strategies": [
                {"name": "default", "parameters": {}, "constraints": [], "variants": [variant(payload)]}
            ],
            "variants": [],
        }
        for model in models
    ]
    return json.dumps({"version": 2, "features": features} | more)


async def test_a_start_without_server_and_cache(unleash_server: EmbeddedUnleash, provider: Provider) -> None:
    """It opens at once and asks for nothing; the flags come with the server."""
    unleash = Unleash(unleash_server)
    await unleash_server.start()
    await unleash.wipe()
    await unleash.flag("Book", GOOD)
    await unleash_server.stop()
    ear = Ear()
    began = monotonic()

    async with provider(unleash_server, ear) as flags:
        opened = monotonic() - began
        nothing = dict(flags.current())
        await unleash_server.start()
        late = await flag_that(flags, lambda flag: True)

    assert opened < 2
    assert {} == nothing
    assert Flag("Book", Stage.SHADOW, sample=0.5) == late
    assert [SILENT, ""] == ear.service


async def test_a_start_without_server_and_with_a_cache(unleash: Unleash, provider: Provider) -> None:
    """It asks for what was asked for last, unconfirmed; the server confirms it when it is back."""
    await unleash.flag("Book", GOOD)
    await unleash.settle()
    async with provider(unleash.server, Ear()) as flags:
        asked = flags.current()["Book"]
        await until(flags._remembered.path.exists)
    await unleash.server.stop()
    ear = Ear()

    async with provider(unleash.server, ear) as flags:
        remembered = flags.current()["Book"]
        await unleash.server.start()
        confirmed = await flag_that(flags, lambda flag: flag.confirmed)

    assert Flag("Book", Stage.SHADOW, sample=0.5) == asked == confirmed
    assert Flag("Book", Stage.SHADOW, sample=0.5, confirmed=False) == remembered
    assert [SILENT, ""] == ear.service


async def test_a_server_that_is_lost_and_back(unleash: Unleash, provider: Provider) -> None:
    """What it asked for last stays, unconfirmed; nothing else is ever asked. Back again, it is followed."""
    await unleash.flag("Book", {"stage": "live"})
    await unleash.settle()
    ear = Ear()

    async with provider(unleash.server, ear) as flags:
        changes = flags.changes()
        await unleash.server.stop()
        lost = await anext(changes)
        await unleash.server.start()
        back = await anext(changes)
        await unleash.flag("Book", {"stage": "shadow"})
        followed = await flag_that(flags, lambda flag: flag.stage is not Stage.LIVE)

    live = Flag("Book", Stage.LIVE)
    assert [Flag("Book", Stage.LIVE, confirmed=False), live] == [lost, back]
    assert Stage.SHADOW is followed.stage
    assert ["", SILENT, ""] == ear.service


@pytest.mark.parametrize("case", NONSENSE)
async def test_nonsense_at_the_start(puppet: Puppet, provider: Provider, tmp_path: Path, case: str) -> None:
    """It is said what is wrong. What a cache asks for is asked for, unconfirmed; without one, nothing."""
    status, body, headers, words = NONSENSE[case]
    puppet.answers(answer("Book"))
    async with provider(puppet, Ear()) as flags:
        await until(flags._remembered.path.exists)
    puppet.answers(body, status, **headers)
    ear = Ear()

    async with provider(puppet, ear) as flags, provider(puppet, Ear(), cache=tmp_path / "new") as cold:
        asked = flags.current(), cold.current()

    assert ({"Book": Flag("Book", Stage.SHADOW, sample=0.5, confirmed=False)}, {}) == asked
    assert 1 == len(ear.service)
    assert words in ear.service[0]


async def test_nonsense_in_between(puppet: Puppet, provider: Provider) -> None:
    """Whatever comes between two good answers, no flag asks for another stage."""
    puppet.answers(answer("Book"))
    ear = Ear()
    asked: set[tuple[Stage, float]] = set()

    async with provider(puppet, ear, poll_seconds=0.05) as flags:
        changes = flags.changes()
        for status, body, headers, _ in NONSENSE.values():
            puppet.answers(body, status, **headers)
            seen = puppet.asked
            await until(lambda seen=seen: puppet.asked >= seen + 3)
            flag = flags.current()["Book"]
            asked.add((flag.stage, flag.sample))
        await until(lambda: len(ear.service) == 2)
        puppet.answers(answer("Book", payload={"stage": "live"}))
        await flag_that(flags, lambda flag: flag.stage is Stage.LIVE)
        told = await anext(changes)

    assert {(Stage.SHADOW, 0.5)} == asked
    assert (Stage.LIVE, True) == (told.stage, told.confirmed)
    assert ["", ""] == [ear.service[0], ear.service[2]]
    assert "" != ear.service[1]


async def test_an_empty_list_is_no_request(puppet: Puppet, provider: Provider) -> None:
    """A server without features is a good server that asks for nothing: flags stay, and nobody stands behind them."""
    puppet.answers(answer("Book", "Genre"))
    ear = Ear()

    async with provider(puppet, ear) as flags:
        puppet.answers('{"version":1,"features":[]}')
        await until(lambda: len(ear.rejections) == 2)
        kept = {model: (flag.stage, flag.confirmed) for model, flag in flags.current().items()}

    assert {"Book": (Stage.SHADOW, False), "Genre": (Stage.SHADOW, False)} == kept
    assert all("the feature is gone" in rejection for rejection in ear.rejections)
    assert [""] == ear.service


async def test_a_feature_that_is_half_there(puppet: Puppet, provider: Provider, tmp_path: Path) -> None:
    """One feature's nonsense is no other's; what the SDK would call disabled is not `off`."""
    whole = json.loads(answer("Book", "Genre"))
    broken: list[Callable[[dict[str, object]], object]] = [
        lambda feature: feature.pop("strategies"),
        lambda feature: feature.update(strategies="default"),
        lambda feature: feature.update(strategies=[1]),
        lambda feature: feature.update(enabled="yes"),
        lambda feature: feature.pop("enabled"),
        lambda feature: feature.update(strategies=[{"name": "default", "segments": [7]}]),
        lambda feature: feature.update(strategies=[{"name": "homemade"}]),
        lambda feature: feature.update(variants={"a": 1}),
    ]
    seen = []
    for number, spoil in enumerate(broken):
        document = json.loads(json.dumps(whole))
        spoil(document["features"][0])
        puppet.answers(json.dumps(document))
        ear = Ear()
        async with provider(puppet, ear, cache=tmp_path / str(number)) as flags:
            seen.append((set(flags.current()), [line for line in ear.rejections if "crossfade.Book" in line]))

    assert [{"Genre"}] * len(broken) == [models for models, _ in seen]
    assert all(len(rejections) == 1 for _, rejections in seen)


async def test_a_server_that_hangs(puppet: Puppet, provider: Provider) -> None:
    """Opening waits a little and closing hardly; when it answers at last, it is followed."""
    ear = Ear()
    began = monotonic()

    async with provider(puppet, ear) as flags:
        opened = monotonic() - began
        nothing = dict(flags.current())
        puppet.answers(answer("Book"))
        await flag_that(flags, lambda flag: flag.stage is Stage.SHADOW)
        puppet.answers(None)
        await until(lambda: len(ear.service) == 3)
        kept = flags.current()["Book"]
        closing = monotonic()
    closed = monotonic() - closing

    assert {} == nothing
    assert opened < 5
    assert closed < 3
    assert (Stage.SHADOW, False) == (kept.stage, kept.confirmed)
    assert [SILENT, "", SILENT] == ear.service


async def test_an_observer_that_raises_and_a_client_that_talks(
    puppet: Puppet, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither ends the polling. What the SDK says of a failed poll is left out, what others say through it is not."""

    class Broken:
        """Raises whatever it hears."""

        def observe(self, event: object) -> None:
            raise ZeroDivisionError

    puppet.answers("", 500)
    async with provider(puppet, Broken(), poll_seconds=0.05) as flags:
        await until(lambda: puppet.asked > 3)
        puppet.answers(answer("Book", "Stranger"))
        await flag_that(flags, lambda flag: flag.confirmed)
    logging.getLogger("UnleashClient").warning("of the application's own")

    assert ["of the application's own"] == caplog.messages


async def test_a_server_that_lags_behind_another(puppet: Puppet, provider: Provider) -> None:
    """Behind one address there may be several; the one that is behind is passed over, unless it stays behind."""
    puppet.answers(answer("Book", payload={"stage": "live"}, meta={"revisionId": 7}))
    ear = Ear()

    async with provider(puppet, ear, poll_seconds=0.1) as flags:
        puppet.answers(answer("Book", payload={"stage": "off"}, meta={"revisionId": 6}))
        seen = puppet.asked
        await until(lambda: puppet.asked >= seen + 4)
        kept = flags.current()["Book"]
        restored = await flag_that(flags, lambda flag: flag.stage is Stage.OFF)

    assert (Stage.LIVE, True) == (kept.stage, kept.confirmed)
    assert restored.confirmed


async def test_a_tag_is_not_believed_for_ever(puppet: Puppet, provider: Provider) -> None:
    """A restored server may come to a tag that it has used before; so everything is asked for now and then."""
    puppet.answers(answer("Book"), ETag='"1"')

    async with provider(puppet, Ear(), poll_seconds=0.01):
        await until(lambda: puppet.asked > 130)
    tagged = ["If-None-Match" in request for request in puppet.requests[1:]]

    assert False in tagged[1:]
    assert tagged.count(True) > 100


async def test_the_token_goes_to_the_server_alone(puppet: Puppet, provider: Provider) -> None:
    """It is sent as a header, follows no redirection, and shows in no repr."""
    elsewhere = Puppet()
    await elsewhere.start()
    puppet.answers("", 302, Location=elsewhere.url)

    async with provider(puppet, Ear(), token="default:development.hush") as flags:
        shown = repr(flags)
    await elsewhere.stop()

    assert "Authorization: default:development.hush" in puppet.requests[0]
    assert [] == elsewhere.requests
    assert "hush" not in shown


async def test_a_wrong_token(unleash: Unleash, provider: Provider) -> None:
    """A real server refuses a token that it does not know, and answers for the environment of one that it does."""
    ear, other = Ear(), Ear()

    async with provider(unleash.server, ear, token="default:development.guess") as flags:
        asked = dict(flags.current())
    token = unleash.server.backend_token_of("production")
    async with provider(unleash.server, other, token=token) as flags:
        asked |= flags.current()

    assert {} == asked
    assert ["it refuses the token (401): take a backend token of the environment"] == ear.service
    assert other.service[0].startswith(
        "the server answers for the environment 'production', not 'development'"
    )


async def test_a_cache_of_something_else(puppet: Puppet, provider: Provider, tmp_path: Path) -> None:
    """What was kept for another application or environment is not used, even if it lies in the right place."""
    puppet.answers(answer("Book"))
    async with provider(puppet, Ear()) as ours:
        await until(ours._remembered.path.exists)
        kept = ours._remembered.path.read_bytes()
    puppet.answers("", 500)
    cache = tmp_path / "other"
    strangers = [{"app_name": "billing"}, {"environment": "production"}]

    for difference in strangers:
        ear = Ear()
        stranger = provider(puppet, ear, cache=cache, **difference)
        stranger._remembered.path.parent.mkdir(parents=True, exist_ok=True)
        stranger._remembered.path.write_bytes(kept)
        async with stranger:
            assert {} == dict(stranger.current())
        assert "not what was kept for this service" in ear.rejections[0]


@pytest.mark.parametrize("spoil", [b"", b"{", b"[]", b'{"body": 1}'])
async def test_a_cache_that_is_damaged(puppet: Puppet, provider: Provider, spoil: bytes) -> None:
    """It is not used, that is said, and the next good answer takes its place."""
    puppet.answers("", 500)
    ear = Ear()
    flags = provider(puppet, ear)
    flags._remembered.path.parent.mkdir(parents=True)
    flags._remembered.path.write_bytes(spoil)

    async with flags:
        nothing = dict(flags.current())
        puppet.answers(answer("Book"))
        await flag_that(flags, lambda flag: flag.confirmed)
        await until(lambda: flags._remembered.path.read_bytes() != spoil)

    assert {} == nothing
    assert "is damaged" in ear.rejections[0]


def test_a_cache_that_was_changed_or_is_old(tmp_path: Path) -> None:
    """A changed body is told by its fingerprint; and what was said long ago, or in the future, does not count."""
    now = 1_000_000.0
    cache = Remembered(tmp_path, "unleash", "u", "e", "a", clock=lambda: now)
    cache.keep("body")
    assert "body" == cache.read()

    for at, words in ((now + KEPT_SECONDS + 60, "1.0 hours ago"), (now - 60, "too long")):
        with pytest.raises(Exception, match=words):
            Remembered(tmp_path, "unleash", "u", "e", "a", clock=lambda at=at: at).read()
    cache.path.write_text(cache.path.read_text().replace('body"', 'bodo"').replace('"bodo":', '"body":'))
    with pytest.raises(Exception, match="is damaged"):
        cache.read()


async def test_a_cache_that_cannot_be_written(puppet: Puppet, provider: Provider, tmp_path: Path) -> None:
    """Flags work without it, and it is reported once."""
    place = tmp_path / "a file"
    place.write_text("")
    puppet.answers(answer("Book"))
    ear = Ear()

    async with provider(puppet, ear, cache=place, poll_seconds=0.05) as flags:
        await until(lambda: puppet.asked > 5)
        asked = flags.current()["Book"]

    assert asked.confirmed
    assert 1 == len(ear.rejections)
    assert "cannot be" in ear.rejections[0]
