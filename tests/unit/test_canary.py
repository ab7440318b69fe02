"""The canary's share: how many rows are in it, that they stay in it, and that every process agrees."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from crossfade.canary import in_share, is_candidate, is_primary
from crossfade.keys import Key
from crossfade.operation import Action, Operation

KEYS = 100_000
SHARE = 0.1
NORMAL_99 = 2.5758
"""How many standard deviations to either side hold 99 % of a normal distribution."""


def integers() -> list[int]:
    """What a sequence gives."""
    return list(range(1, KEYS + 1))


def texts() -> list[str]:
    """Ids that differ only in a few places, as those do that are made one after the other."""
    return [f"clx0{number:08x}0000qz3f9a1b2c3d" for number in range(KEYS)]


def uuids() -> list[UUID]:
    """Random ones, the same each time."""
    random = Random(1)
    return [UUID(int=random.getrandbits(128), version=4) for _ in range(KEYS)]


def shared(model: str, values: list[object], share: float = SHARE) -> list[bool]:
    """Which of the rows with these ids are in the share."""
    return [in_share(Key(model, (("id", value),)), share) for value in values]


@pytest.mark.parametrize("model", ["User", "Order"])
@pytest.mark.parametrize("values", [integers, texts, uuids])
def test_a_tenth_is_a_tenth(values: Callable[[], list[object]], model: str) -> None:
    """Of 100,000 keys, as many as chance would pick 99 times out of 100."""
    found = sum(shared(model, values()))

    assert abs(found - SHARE * KEYS) <= NORMAL_99 * sqrt(KEYS * SHARE * (1 - SHARE))


def fingerprint() -> str:
    """A digest of every decision on 100,000 keys."""
    decisions = bytes(shared("User", list(texts())))
    return hashlib.sha256(decisions).hexdigest()


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_every_process_picks_the_same_rows(seed: str) -> None:
    """Another process, with other hashes: the same 100,000 decisions."""
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    asked = [sys.executable, "-c", "import test_canary; print(test_canary.fingerprint())"]
    told = subprocess.run(
        asked, env=environment, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )

    assert fingerprint() == told.stdout.strip()


def test_the_decision_is_the_same_in_every_release() -> None:
    """Old and new processes work side by side while a release is rolled out."""
    assert [16, 19, 22, 29, 36] == [number for number in range(1, 40) if in_share(key(number), SHARE)]


def key(value: object, model: str = "User") -> Key:
    """A key of one column."""
    return Key(model, (("id", value),))


def test_a_share_that_grows_keeps_the_rows_it_had() -> None:
    """And one that shrinks takes in no others."""
    small, large = shared("User", list(integers()), 0.05), shared("User", list(integers()), 0.25)

    assert all(two for one, two in zip(small, large, strict=True) if one)
    assert sum(small) < sum(large)


def test_two_models_do_not_share_their_rows() -> None:
    """Or the same customers would be tried in every model."""
    both = sum(
        one and two
        for one, two in zip(shared("User", list(integers())), shared("Order", list(integers())), strict=True)
    )

    expected = KEYS * SHARE * SHARE
    assert abs(both - expected) <= NORMAL_99 * sqrt(expected)


def test_nothing_and_everything() -> None:
    """0 is none and 1 is all."""
    assert not any(shared("User", list(integers())[:1000], 0.0))
    assert all(shared("User", list(integers())[:1000], 1.0))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (UUID(int=7), str(UUID(int=7)).upper()),
        (UUID(int=7), UUID(int=7).hex),
        (5, "5"),
        ("abc", "ABC   "),
    ],
)
def test_spellings_of_one_key_are_one_row(one: object, two: object) -> None:
    """Stores take several, so a row must not be on both sides of the line."""
    shares = [number / 50 for number in range(51)]

    assert [in_share(key(one), share) for share in shares] == [in_share(key(two), share) for share in shares]


def test_columns_of_a_key_are_kept_apart() -> None:
    """`a` with `bc` is another row than `ab` with `c`."""
    pairs = [(("a" * n, "b"), ("a" * (n - 1), "ab")) for n in range(1, 200)]
    decisions = [
        tuple(in_share(Key("User", tuple(zip(("x", "y"), values, strict=True))), 0.5) for values in pair)
        for pair in pairs
    ]

    assert any(one != two for one, two in decisions)


@pytest.mark.parametrize("value", [1.5, True, None, b"k"])
def test_a_key_without_one_text_is_never_in_the_share(value: object) -> None:
    """Its spelling depends on the column, and so two processes might not agree."""
    assert not in_share(key(value), 1.0)


def test_only_reads_of_one_row_alone_are_candidates() -> None:
    """A list, a count or an include would mix rows of both sides in one answer."""
    where = {"where": {"id": 1}}
    candidates = {action for action in Action if is_candidate(Operation("User", action, where))}

    assert {Action.FIND_UNIQUE, Action.FIND_UNIQUE_OR_RAISE} == candidates
    assert not is_candidate(Operation("User", Action.FIND_UNIQUE, {**where, "include": {"books": True}}))


def test_the_primary_key_is_told_from_other_unique_keys() -> None:
    """By its columns."""
    assert is_primary(Key("User", (("id", 1),)), ["id"])
    assert not is_primary(Key("User", (("email", "a"),)), ["id"])
