"""`crossfade flags` as a user runs it, against a real Unleash server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crossfade.events import NullObserver
from crossfade.flags.files import read_flags
from crossfade.flags.payload import to_payload
from crossfade.flags.unleash import UnleashFlags
from unleash import Unleash, variant

SCHEMA = """
model User {
  id     Int     @id
  orders Order[]
}

model Order {
  id      Int  @id
  user_id Int
  user    User @relation(fields: [user_id], references: [id])
}
"""
TOKEN = "no-such-token-4711"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A directory with a schema and two flag files, and the command run there."""

    def __init__(self, root: Path, unleash: Unleash | None = None) -> None:
        self.root = root
        self.unleash = unleash
        (root / "schema.prisma").write_text(SCHEMA)
        (root / "flags").mkdir()
        self.write("User", "owner: accounts # ours\ndescription: People.\nstage: shadow\nsample: 0.5\n")
        self.write("Order", "owner: checkout\ndescription: Purchases.\nstage: off\n")

    def path(self, model: str) -> Path:
        return self.root / "flags" / f"{model}.yaml"

    def write(self, model: str, lines: str) -> None:
        self.path(model).write_text(f"# kept\nmodel: {model}\n{lines}")

    def change(self, model: str, old: str, new: str) -> None:
        text = self.path(model).read_text()
        assert old in text
        self.path(model).write_text(text.replace(old, new))

    def run(self, *arguments: str, **environment: str) -> Outcome:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        if self.unleash is not None:
            kept["CROSSFADE_UNLEASH_URL"] = self.unleash.server.api_url
            kept["CROSSFADE_UNLEASH_ADMIN_TOKEN"] = self.unleash.server.admin_token
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            cwd=self.root,
            env={**kept, "PYTHONWARNINGS": "error", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def does(self, *arguments: str, **environment: str) -> str:
        """Run a command that has to go well; return what it says."""
        outcome = self.run(*arguments, **environment)
        assert (0, "") == (outcome.code, outcome.err), outcome
        return outcome.out

    def standings(self, *arguments: str) -> dict[str, str]:
        """How `diff` sees each model."""
        rows = json.loads(self.run("flags", "diff", "--json", *arguments).out)
        return {row["model"]: row["standing"] for row in rows}

    async def feature(self, model: str) -> dict[str, Any]:
        """What the server has."""
        assert self.unleash is not None
        found: dict[str, Any] = await self.unleash.call(
            "GET", f"/projects/default/features/crossfade.{model}"
        )
        found["tags"] = (await self.unleash.call("GET", f"/features/crossfade.{model}/tags"))["tags"]
        return found

    async def asks(self, model: str, environment: str = "development") -> Mapping[str, Any] | None:
        """What the server asks for in one environment; None where it is toggled off."""
        feature = await self.feature(model)
        place = next(one for one in feature["environments"] if one["name"] == environment)
        if not place["enabled"]:
            return None
        (strategy,) = place["strategies"]
        (handed,) = strategy["variants"]
        payload: Mapping[str, Any] = json.loads(handed["payload"]["value"])
        return payload


@pytest.fixture
def desk(tmp_path: Path, unleash: Unleash) -> Desk:
    return Desk(tmp_path, unleash)


@pytest.fixture
def alone(tmp_path: Path) -> Desk:
    """Without a server."""
    return Desk(tmp_path)


async def test_a_push_makes_features(desk: Desk) -> None:
    """With payload, owner, description and environment; a second one has nothing to do."""
    assert {"Order": "new", "User": "new"} == desk.standings()

    out = desk.does("flags", "push")

    assert "User: pushed" in out
    assert "2 flags pushed to http://127.0.0.1" in out
    assert {"stage": "shadow", "sample": 0.5, "canary": 0} == await desk.asks("User")
    assert {"stage": "off", "sample": 1, "canary": 0} == await desk.asks("Order")
    feature = await desk.feature("User")
    assert ("operational", "People.") == (feature["type"], feature["description"])
    assert ["accounts"] == [tag["value"] for tag in feature["tags"] if tag["type"] == "owner"]
    assert {"Order": "same", "User": "same"} == desk.standings()
    assert 0 == desk.run("flags", "diff").code
    assert "0 flags pushed" in desk.does("flags", "push")


async def test_what_was_pushed_is_what_processes_are_asked_for(desk: Desk, tmp_path: Path) -> None:
    """Down to the thresholds."""
    assert desk.unleash is not None
    desk.change(
        "User",
        "stage: shadow",
        "stage: dualwrite\ncanary: 0.1\ncohort: money\ngates: {lag: 2}\nguard: {window: 5}",
    )
    desk.does("flags", "push")
    server = desk.unleash.server
    arguments = {"environment": "development", "app_name": "shop", "cache_dir": tmp_path / "cache"}

    async with UnleashFlags(
        server.api_url, server.backend_token, ["Order", "User"], NullObserver(), **arguments
    ) as provider:
        asked = provider.current()

    files = read_flags(tmp_path / "flags", ["Order", "User"])
    assert {model: to_payload(flag) for model, flag in files.items()} == {
        model: to_payload(flag) for model, flag in asked.items()
    }
    assert all(flag.confirmed for flag in asked.values())


async def test_a_changed_file_is_pushed(desk: Desk) -> None:
    """Only that one, shown before; `--dry-run` shows it alone."""
    desk.does("flags", "push")
    desk.change("User", "stage: shadow", "stage: dualwrite\ncanary: 0.1\ncohort: money\ngates: {lag: 2}")
    desk.change("User", "owner: accounts", "owner: people")

    dry = desk.does("flags", "push", "--dry-run")

    assert "User: changed in the file" in dry
    assert "stage       the server has shadow, the file has dualwrite" in dry
    assert "1 flag would be pushed" in dry
    assert {"stage": "shadow", "sample": 0.5, "canary": 0} == await desk.asks("User")

    outcome = desk.run("flags", "diff")
    assert (1, "") == (outcome.code, outcome.err)
    assert "User: changed in the file" in outcome.out

    desk.does("flags", "push")

    wanted = {"stage": "dualwrite", "sample": 0.5, "canary": 0.1, "cohort": "money", "gates": {"lag": 2}}
    assert wanted == await desk.asks("User")
    tags = (await desk.feature("User"))["tags"]
    assert ["people"] == [tag["value"] for tag in tags if tag["type"] == "owner"]
    assert {"Order": "same", "User": "same"} == desk.standings()


async def test_what_somebody_else_has_changed_is_not_overwritten(desk: Desk) -> None:
    """Nothing is pushed at all, the value and both remedies are named; `--ours` overwrites it."""
    assert desk.unleash is not None
    desk.does("flags", "push")
    await desk.unleash.flag("User", {"stage": "live", "sample": 0.5})
    desk.change("User", "stage: shadow", "stage: dualwrite")
    desk.change("Order", "stage: off", "stage: dualwrite")

    refused = desk.run("flags", "push")

    assert 2 == refused.code
    assert "User (stage live there, dualwrite in the file)" in refused.err
    assert "nothing was pushed" in refused.err
    assert "`crossfade flags pull`" in refused.err
    assert "`crossfade flags push --ours`" in refused.err
    assert {"stage": "live", "sample": 0.5} == await desk.asks("User")
    assert {"stage": "off", "sample": 1, "canary": 0} == await desk.asks("Order")
    assert {"Order": "ahead", "User": "drifted"} == desk.standings()

    desk.does("flags", "push", "Order")
    desk.does("flags", "push", "--ours")

    assert "dualwrite" == (await desk.asks("User") or {})["stage"]
    assert {"Order": "same", "User": "same"} == desk.standings()


async def test_what_somebody_else_has_changed_is_pulled(desk: Desk) -> None:
    """Into the values of the file alone; afterwards it is known, and the file may be changed and pushed."""
    assert desk.unleash is not None
    desk.does("flags", "push")
    await desk.unleash.flag("User", {"stage": "live", "sample": 0.5, "guard": {"window": 20}})
    before = desk.path("User").read_text()

    assert "1 flag would be pulled" in desk.does("flags", "pull", "--dry-run")
    assert before == desk.path("User").read_text()

    assert "1 flag pulled" in desk.does("flags", "pull")

    assert before.replace("shadow", "live") + "guard:\n  window: 20\n" == desk.path("User").read_text()
    assert {"Order": "same", "User": "same"} == desk.standings()
    desk.change("User", "stage: live", "stage: shadow")
    assert {"Order": "same", "User": "ahead"} == desk.standings()
    desk.does("flags", "push")
    assert "shadow" == (await desk.asks("User") or {})["stage"]


async def test_a_change_that_was_not_pushed_survives_a_pull(desk: Desk) -> None:
    """Unless the server's value is asked for."""
    desk.does("flags", "push")
    desk.change("User", "stage: shadow", "stage: live")

    kept = desk.does("flags", "pull")

    assert "left as it is" in kept
    assert "stage: live" in desk.path("User").read_text()
    desk.does("flags", "pull", "--theirs")
    assert "stage: shadow" in desk.path("User").read_text()


async def test_a_push_of_what_cannot_be_met_is_refused(desk: Desk) -> None:
    """Also if the other model's file would do and is not pushed with it; the way back is open."""
    desk.does("flags", "push")
    desk.change("User", "stage: shadow", "stage: off")
    desk.change("Order", "stage: off", "stage: dualwrite")

    refused = desk.run("flags", "push")

    assert 2 == refused.code
    assert (
        "crossfade: Order, User cannot be asked for what the files say: Order (dualwrite) refers to User (off), and its"
        " rows cannot stand where theirs are missing: ask for User at dualwrite first, or for Order at off\n"
    ) == refused.err
    assert "off" == (await desk.asks("Order") or {})["stage"]

    desk.does("flags", "push", "Order")
    told = desk.does("flags", "push", "User")

    assert "it will be held as long as this is asked for: Order (dualwrite) refers to User (off)" in told
    assert "off" == (await desk.asks("User") or {})["stage"]


async def test_toggling_off_is_never_undone_by_a_push(desk: Desk) -> None:
    """It is the button for the way back: it counts as a change of somebody's, and is pulled as `off`."""
    assert desk.unleash is not None
    desk.does("flags", "push")
    await desk.unleash.switch("User", on=False)

    refused = desk.run("flags", "push")
    assert (2, True) == (refused.code, "stage off (toggled off) there, shadow in the file" in refused.err)

    desk.does("flags", "pull")
    assert "stage: off" in desk.path("User").read_text()
    assert {"Order": "same", "User": "same"} == desk.standings()
    desk.does("flags", "push")
    assert None is await desk.asks("User")

    desk.change("User", "stage: off", "stage: dualwrite")
    desk.does("flags", "push")
    assert "dualwrite" == (await desk.asks("User") or {})["stage"]


async def test_what_no_file_can_say_is_told(desk: Desk) -> None:
    """It is neither pulled nor overwritten unasked, and the other models are pulled."""
    assert desk.unleash is not None
    desk.does("flags", "push")
    await desk.unleash.strategy("User", None, variants=[variant({"stage": "live"})])
    await desk.unleash.flag("Order", {"stage": "dualwrite"})

    outcome = desk.run("flags", "pull")

    assert 1 == outcome.code
    assert "it has 2 strategies; no file can say that" in outcome.out
    assert "no file can say it: User" in outcome.err
    assert "stage: dualwrite" in desk.path("Order").read_text()
    assert 2 == desk.run("flags", "push").code
    desk.does("flags", "push", "--ours")
    assert "shadow" == (await desk.asks("User") or {})["stage"]


async def test_a_feature_that_nobody_pushed_is_not_taken_for_ours(desk: Desk) -> None:
    """Somebody has made it by hand: pull it, or say `--ours`."""
    assert desk.unleash is not None
    await desk.unleash.flag("User", {"stage": "live"})

    assert {"Order": "new", "User": "drifted"} == desk.standings()
    assert 2 == desk.run("flags", "push").code
    desk.path("User").unlink()
    assert {"Order": "new", "User": "unknown"} == desk.standings()
    desk.does("flags", "pull")
    assert "stage: live" in desk.path("User").read_text()


async def test_environments_are_apart(desk: Desk) -> None:
    """Each has its own value, and its own memory of who has changed it."""
    desk.does("flags", "push")
    desk.change("User", "stage: shadow", "stage: dualwrite")
    desk.does("flags", "push", "--environment", "production")

    assert "shadow" == (await desk.asks("User") or {})["stage"]
    assert "dualwrite" == (await desk.asks("User", "production") or {})["stage"]
    assert {"Order": "same", "User": "ahead"} == desk.standings()
    assert {"Order": "same", "User": "same"} == desk.standings("--environment", "production")


async def test_an_environment_that_the_project_lacks_is_connected(desk: Desk) -> None:
    """The server has it, and a push to it means that it is wanted."""
    assert desk.unleash is not None
    desk.does("flags", "push")
    await desk.unleash.call("DELETE", "/projects/default/environments/production")

    desk.does("flags", "push", CROSSFADE_UNLEASH_ENVIRONMENT="production")

    assert "shadow" == (await desk.asks("User", "production") or {})["stage"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "CROSSFADE_UNLEASH_ENVIRONMENT",
            "staging",
            "it has no environment 'staging'; it has development, production",
        ),
        ("CROSSFADE_UNLEASH_PROJECT", "shop", "it has no project 'shop'; it has default"),
        ("CROSSFADE_UNLEASH_URL", "http://127.0.0.1:9/api", "it does not answer (ConnectError)"),
    ],
)
async def test_a_wrong_server_is_named(desk: Desk, name: str, value: str, told: str) -> None:
    """With what it has instead."""
    outcome = desk.run("flags", "push", **{name: value})

    assert 2 == outcome.code
    assert told in outcome.err
    assert 1 == len(outcome.err.splitlines())


async def test_an_export_is_imported(desk: Desk, tmp_path: Path) -> None:
    """A server that has imported it is in step with the files."""
    assert desk.unleash is not None
    desk.does("flags", "export", "--output", "export.json")
    data = json.loads((tmp_path / "export.json").read_text())
    body = {"environment": "development", "project": "default", "data": data}

    # The server lets nobody with an admin token import; without one it takes us for the person at the page.
    await desk.unleash.call("POST", "/features-batch/import", body, as_person=True)

    assert {"stage": "shadow", "sample": 0.5, "canary": 0} == await desk.asks("User")
    assert {"Order": "same", "User": "same"} == desk.standings()
    assert "0 flags pushed" in desk.does("flags", "push")


def test_check_reads_every_file(alone: Desk) -> None:
    """No server is asked."""
    alone.change("User", "stage: shadow", "stage: off")

    assert "2 flag files are fine, and what they ask for goes together" in alone.does("flags", "check")


def test_check_names_broken_files(alone: Desk) -> None:
    """All of them, each with its line."""
    alone.change("User", "sample: 0.5", "sample: 5")
    alone.change("Order", "stage: off", "stage: of")

    outcome = alone.run("flags", "check")

    assert 2 == outcome.code
    assert "flags/User.yaml:6: sample must be from 0 to 1, not 5" in outcome.err
    assert "flags/Order.yaml:5: unknown stage 'of'" in outcome.err


def test_check_refuses_what_does_not_go_together(alone: Desk) -> None:
    """With the models and the remedy."""
    alone.change("User", "stage: shadow", "stage: off")
    alone.change("Order", "stage: off", "stage: dualwrite")

    outcome = alone.run("flags", "check")

    assert 1 == outcome.code
    assert (
        "crossfade: Order (dualwrite) refers to User (off), and its rows cannot stand where theirs are missing: ask for"
        " User at dualwrite first, or for Order at off\n"
    ) == outcome.err


def test_without_a_server_the_variables_are_named(alone: Desk) -> None:
    """Both that are missing."""
    outcome = alone.run("flags", "push")

    assert 2 == outcome.code
    assert "set CROSSFADE_UNLEASH_URL and CROSSFADE_UNLEASH_ADMIN_TOKEN" in outcome.err


def test_the_token_is_never_shown(alone: Desk) -> None:
    """Not in a message, and not in a traceback either."""
    outcome = alone.run(
        "flags",
        "push",
        CROSSFADE_UNLEASH_URL="http://someone:hunter2@127.0.0.1:9/api",
        CROSSFADE_UNLEASH_ADMIN_TOKEN=TOKEN,
        CROSSFADE_DEBUG="1",
    )

    assert 2 == outcome.code
    assert TOKEN not in outcome.out + outcome.err
    assert "hunter2" not in outcome.out + outcome.err


def test_an_unknown_model_is_named(alone: Desk) -> None:
    """Before a server is asked."""
    outcome = alone.run(
        "flags",
        "diff",
        "Usr",
        CROSSFADE_UNLEASH_URL="http://127.0.0.1:9/api",
        CROSSFADE_UNLEASH_ADMIN_TOKEN=TOKEN,
    )

    assert (2, True) == (outcome.code, "unknown model 'Usr'; the schema has Order, User" in outcome.err)


def test_the_schema_is_written(alone: Desk) -> None:
    """To standard output, or into a file."""
    printed = alone.does("flags", "schema")
    alone.does("flags", "schema", "--output", "flags/flag.schema.json")

    assert json.loads(printed) == json.loads((alone.root / "flags/flag.schema.json").read_text())
    alone.change("User", "stage: shadow", "stage: off")
    alone.does("flags", "check")
