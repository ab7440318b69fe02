"""The JSON schema of flag files: that it is the one in `flags/`, that the files meet it, and that it is strict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossfade.errors import FlagError
from crossfade.flags.document import KEYS, parse_flag
from crossfade.flags.editing import SCHEMA_LINE, fresh_text
from crossfade.flags.flag import Flag
from crossfade.flags.json_schema import flag_schema
from crossfade.stages import Stage
from crossfade.thresholds import GateThresholds, GuardThresholds

ROOT = Path(__file__).parents[2]

FLAGS = sorted((ROOT / "flags").glob("*.yaml"))
LINES = "model: User\nowner: team\ndescription: d\nstage: off\n"


class Yaml12(yaml.SafeLoader):
    """Reads `off` as editors do: as a word."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def meets(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value meets a schema, as far as ours use the language."""
    told = schema.keys() - {"$schema", "title", "description", "default", "markdownEnumDescriptions"}
    checks = {
        "type": lambda kind: (
            not isinstance(value, bool)
            and isinstance(value, {"object": dict, "string": str, "number": (int, float)}[kind])
        ),
        "enum": lambda values: value in values,
        "minLength": lambda length: len(value) >= length,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "required": lambda keys: keys <= [*value] or set(keys) <= value.keys(),
        "additionalProperties": lambda more: more or value.keys() <= schema["properties"].keys(),
        "properties": lambda known: all(meets(value[key], known[key]) for key in value.keys() & known.keys()),
    }
    order = sorted(told, key=list(checks).index)  # an unknown word of the language fails here
    return all(checks[word](schema[word]) for word in order)


def accepted(text: str) -> bool:
    """Whether crossfade reads a flag file with this text."""
    try:
        parse_flag(Path("User.yaml"), text.encode(), None)
    except FlagError:
        return False
    return True


def test_the_schema_in_the_repository_is_the_one_that_is_made() -> None:
    """`crossfade flags schema --output flags/flag.schema.json` brings it up to date."""
    assert flag_schema() == json.loads((ROOT / "flags/flag.schema.json").read_text())


@pytest.mark.parametrize("path", FLAGS, ids=lambda path: path.stem)
def test_every_flag_file_names_the_schema_and_meets_it(path: Path) -> None:
    """So that an editor shows nothing red in what we ship."""
    text = path.read_text()

    assert text.startswith(SCHEMA_LINE)
    assert meets(yaml.load(text, Yaml12), flag_schema())  # noqa: S506 - a safe loader


def test_a_new_file_names_the_schema_and_meets_it() -> None:
    """As `flip` and `pull` write it."""
    text = fresh_text(
        Flag("User", Stage.SHADOW, 0.5, 0.1, cohort="money", gates={"lag": 2}, guard={"window": 5})
    )

    assert text.startswith(SCHEMA_LINE)
    assert meets(yaml.load(text, Yaml12), flag_schema())  # noqa: S506 - a safe loader


@pytest.mark.parametrize(
    "more",
    [
        "",
        "sample: 0\ncanary: 1\n",
        "sample: 1.01\n",
        "canary: -0.5\n",
        "canary: some\n",
        "colour: red\n",
        "cohort: money\n",
        "cohort: [money]\n",
        "gates: {lag: 5, comparisons: 0.01, rare: 0, latency: 2, errors: 0.1}\n",
        "gates: {lga: 5}\n",
        "gates: {latency: 0.5}\n",
        "gates: {comparisons: 0}\n",
        "gates: {lag: soon}\n",
        "gates: 5\n",
        "guard: {mismatches: 0.5, errors: 0.5, latency: 9, lag: 9, least: 3, window: 30}\n",
        "guard: {rare: 0.5}\n",
        "guard: {window: 0}\n",
    ],
)
def test_the_schema_is_as_strict_as_the_reader(more: str) -> None:
    """What an editor underlines is what a process would refuse, and nothing else is."""
    text = LINES + more

    assert accepted(text) == meets(yaml.load(text, Yaml12), flag_schema())  # noqa: S506 - a safe loader


@pytest.mark.parametrize("stage", [*Stage, "lvie", "Off", "true"])
def test_the_schema_knows_the_stages(stage: str) -> None:
    """All six, and no other word."""
    text = LINES.replace("off", stage)

    assert accepted(text) == meets(yaml.load(text, Yaml12), flag_schema())  # noqa: S506 - a safe loader


def test_the_schema_has_every_key_and_threshold() -> None:
    """With a description and, for a number, its default."""
    known = flag_schema()["properties"]

    assert list(KEYS) == list(known)
    for kind, key in ((GateThresholds, "gates"), (GuardThresholds, "guard")):
        told = known[key]["properties"]
        assert {name: getattr(kind(), name) for name in kind.names()} == {
            name: threshold["default"] for name, threshold in told.items()
        }
        assert all(threshold["description"] for threshold in told.values())
