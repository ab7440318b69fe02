"""Whatever a server answers: nothing is called switched off that is not, and one feature's nonsense is no other's."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from yggdrasil_engine.engine import UnleashEngine

from crossfade.errors import FlagError
from crossfade.flags.definitions import payload_in, read_definitions

FEATURE = {
    "name": "crossfade.Book",
    "type": "operational",
    "enabled": True,
    "project": "default",
    "stale": False,
    "description": "a book",
    "impressionData": False,
    "dependencies": [],
    "variants": [],
    "strategies": [
        {
            "name": "flexibleRollout",
            "parameters": {"rollout": "100", "stickiness": "default", "groupId": "crossfade.Book"},
            "constraints": [
                {
                    "contextName": "appName",
                    "operator": "IN",
                    "values": ["shop"],
                    "value": "",
                    "inverted": False,
                    "caseInsensitive": False,
                }
            ],
            "segments": [1],
            "variants": [
                {
                    "name": "flag",
                    "weight": 1000,
                    "weightType": "variable",
                    "stickiness": "default",
                    "payload": {"type": "json", "value": '{"stage": "shadow"}'},
                }
            ],
        }
    ],
}
SEGMENT = {
    "id": 1,
    "name": "soon",
    "constraints": [
        {
            "contextName": "currentTime",
            "operator": "DATE_AFTER",
            "values": [],
            "value": "2020-01-01T00:00:00.000Z",
            "inverted": False,
            "caseInsensitive": False,
        }
    ],
}
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([1, "a", None]),
    st.just({"a": 1}),
    st.just([{"name": 1}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, one in inner for place in places(one, (*path, key))]


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A server's answer with junk in some places of one feature, or of its segment."""
    other = {"name": "crossfade.Genre", "enabled": True, "strategies": [{"name": "default"}]}
    document: dict[str, Any] = copy.deepcopy(
        {"version": 2, "features": [FEATURE, other], "segments": [SEGMENT]}
    )
    for _ in range(draw(st.integers(1, 3))):
        root = draw(st.sampled_from([document["features"][0], document["segments"][0]]))
        *path, last = draw(st.sampled_from(places(root)))
        if last == "name" and not path:
            continue  # another name is another feature
        for key in path:
            root = root[key]
        if draw(st.booleans()):
            root[last] = copy.deepcopy(draw(JUNK))  # what is drawn is shared
        else:
            del root[last]
    return document


@settings(max_examples=500, deadline=None)
@given(spoilt())
def test_nonsense_in_one_feature(document: dict[str, Any]) -> None:
    """It is refused, or evaluated; the document can be read by the SDK's engine in any case, and the others with it."""
    definitions = read_definitions(json.dumps(document), "development", "server")
    engine = UnleashEngine()
    engine.take_state(definitions.text)
    known = {toggle.name for toggle in engine.list_known_toggles()}

    assert "Book" in definitions
    assert "Genre" in definitions.on
    assert {definitions.mark, "crossfade.Genre"} <= known
    assert engine.check_variant(definitions.mark, {"properties": {}}).variant.enabled
    assert ("Book" in definitions.on) == ("crossfade.Book" in known)
    if document["features"][0].get("enabled") is not False:
        assert "Book" not in definitions.off
    payload_in(document["features"][0])


KEYS = st.sampled_from(["version", "features", "segments", "query", "meta", "name"])
DOCUMENTS = st.recursive(
    JUNK, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS)
def test_any_document(document: Any) -> None:
    """It is refused, or has no features of ours: nothing else is ever raised."""
    with suppress(FlagError):
        definitions = read_definitions(json.dumps(document), "development", "server")

        assert {} == dict(definitions.on) == dict(definitions.off) == dict(definitions.problems)
