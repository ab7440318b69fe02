"""Changing what a flag file says, and nothing else in it.

A file belongs to a team: its comments, order and layout stay byte for byte. The text is read again before it is handed
out, so that what is written is what was meant; a file in which a value cannot be changed in place is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from crossfade.errors import FlagError
from crossfade.flags.document import Entry, decode, entries_of, mapping_of, parse_text
from crossfade.flags.flag import Flag
from crossfade.stages import Stage

SCHEMA_LINE = "# yaml-language-server: $schema=flag.schema.json\n"
"""The first line of every file: editors look there for the schema."""

_SHARES = {"sample": 1.0, "canary": 0.0}


def with_stage(path: Path, content: bytes | str, stage: Stage) -> tuple[Stage, str]:
    """Return the stage a file asks for, and its text with `stage` there and nothing else changed.

    Raises:
        FlagError: it cannot be used.
    """
    text = decode(path, content)
    before = parse_text(path, text, None)
    return before.stage, _edited(path, text, before, replace(before, stage=stage))


def with_flag(path: Path, content: bytes | str, flag: Flag) -> str:
    """Return a file's text with what `flag` asks for, its owner and its description.

    Raises:
        FlagError: it cannot be used.
    """
    text = decode(path, content)
    return _edited(path, text, parse_text(path, text, None), flag)


def fresh_text(flag: Flag) -> str:
    """Return the text of a new file for `flag`."""
    lines = [
        SCHEMA_LINE.rstrip(),
        f"model: {flag.model}",
        f"owner: {_scalar(flag.owner or 'nobody yet')}",
        f"description: {_scalar(flag.description or 'Not described yet.')}",
        f"stage: {flag.stage}",
    ]
    lines += [line for key in _OPTIONAL for line in _lines(flag, key)]
    return "\n".join(lines) + "\n"


_OPTIONAL = ("sample", "canary", "cohort", "gates", "guard")


def _edited(path: Path, text: str, before: Flag, flag: Flag) -> str:
    edits: list[tuple[int, int, str]] = []
    appended: list[str] = []
    entries = entries_of(path, text)
    for key in ("owner", "description", "stage", *_OPTIONAL):
        if getattr(before, key) == getattr(flag, key):
            continue
        entry = entries.get(key)
        if entry is None:
            appended += _lines(flag, key)
        else:
            edits += _edits(path, text, entry, flag, key)
    edited = text
    for start, end, words in sorted(edits, reverse=True):
        edited = edited[:start] + words + edited[end:]
    if appended:
        edited = f"{edited.rstrip(chr(10))}\n" + "".join(f"{line}\n" for line in appended)
    try:
        found = parse_text(path, edited, None)
    except FlagError:
        found = None
    if found != flag:
        changed = [key for key in ("stage", *_OPTIONAL) if getattr(before, key) != getattr(flag, key)]
        what = "stage" if changed == ["stage"] else " and ".join(changed) or "text"
        raise FlagError(
            str(path), f"the {what} is not written as one plain word; edit it by hand: {_told(flag)}"
        )
    return edited


def _edits(path: Path, text: str, entry: Entry, flag: Flag, key: str) -> list[tuple[int, int, str]]:
    lines = _lines(flag, key)
    if not lines:
        return [_whole_lines(text, entry)]
    if key not in ("gates", "guard"):
        span = entry.value
        return [(span.start_mark.index, span.end_mark.index, lines[0].split(": ", 1)[1])]
    wanted: Mapping[str, float] = getattr(flag, key)
    node = entry.value
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        words = "{" + ", ".join(f"{name}: {_number(wanted[name])}" for name in wanted) + "}"
        return [(node.start_mark.index, node.end_mark.index, words)]
    return _threshold_edits(path, text, node, wanted)


def _threshold_edits(
    path: Path, text: str, node: yaml.MappingNode, wanted: Mapping[str, float]
) -> list[tuple[int, int, str]]:
    edits = []
    found = mapping_of(path, node)
    for name, entry in found.items():
        if name not in wanted:
            edits.append(_whole_lines(text, entry))
        elif not isinstance(entry.value, yaml.ScalarNode) or float(entry.value.value) != wanted[name]:
            span = entry.value
            edits.append((span.start_mark.index, span.end_mark.index, _number(wanted[name])))
    first = next(iter(found.values()))
    at = _line_start(text, first.key.start_mark.index)
    indent = text[at : first.key.start_mark.index]
    new = [f"{indent}{name}: {_number(wanted[name])}\n" for name in wanted if name not in found]
    return [*edits, (at, at, "".join(new))] if new else edits


def _lines(flag: Flag, key: str) -> list[str]:
    """The lines that say what a flag has under a key; none where that is the default."""
    value = getattr(flag, key)
    if key in ("gates", "guard"):
        return [f"{key}:", *(f"  {name}: {_number(value[name])}" for name in value)] if value else []
    if key in _SHARES:
        return [f"{key}: {_number(value)}"] if value != _SHARES[key] else []
    if value is None:
        return []
    return [f"{key}: {value if key == 'stage' else _scalar(value)}"]


def _whole_lines(text: str, entry: Entry) -> tuple[int, int, str]:
    end = entry.value.end_mark.index
    # A block's end is where the next thing begins; a scalar's is behind its last character.
    if not text[entry.key.start_mark.index : end].endswith("\n"):
        newline = text.find("\n", end)
        end = len(text) if newline < 0 else newline + 1
    return _line_start(text, entry.key.start_mark.index), end, ""


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _scalar(text: str) -> str:
    """A text as YAML writes it on one line."""
    style = None if text.isprintable() else '"'
    listed: str = yaml.safe_dump(
        [text], default_flow_style=True, default_style=style, width=math.inf, allow_unicode=True
    )
    return listed.strip()[1:-1]


def _number(number: float) -> str:
    exact = float(number)
    return str(int(exact)) if exact.is_integer() else repr(exact)


def _told(flag: Flag) -> str:
    return "; ".join(line for key in ("stage", *_OPTIONAL) for line in _lines(flag, key))
