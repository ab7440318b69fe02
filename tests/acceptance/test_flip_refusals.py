"""What `crossfade flip` refuses to ask for, and what it only warns of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SCHEMA = """
model Author {
  id    String @id
  books Book[]
}

model Book {
  id        Int    @id
  author_id String
  author    Author @relation(fields: [author_id], references: [id])
}
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Shelf:
    """A parent and its child, with a flag file each, and the command run beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "flags").mkdir()
        (root / "schema.prisma").write_text(SCHEMA)

    def ask(self, cohort: str | None = None, **stages: str) -> None:
        for model, stage in stages.items():
            more = f"cohort: {cohort}\n" if cohort else ""
            self.path(model).write_text(
                f"model: {model}\nowner: team\ndescription: d\nstage: {stage}\n{more}"
            )

    def path(self, model: str) -> Path:
        return self.root / "flags" / f"{model}.yaml"

    def asked(self) -> dict[str, str]:
        """What the files ask for."""
        return {
            path.stem: path.read_text().split("stage: ")[1].split()[0]
            for path in sorted((self.root / "flags").iterdir())
        }

    def run(self, *arguments: str, **environment: str) -> Outcome:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
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


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize(
    ("asked", "cohort", "flip", "told"),
    [
        pytest.param(
            {"Author": "off", "Book": "off"},
            None,
            ("Book", "dualwrite"),
            "Book cannot be asked for dualwrite: Book (dualwrite) refers to Author (off), and its rows cannot stand"
            " where theirs are missing: ask for Author at dualwrite first, or for Book at off",
            id="child before parent",
        ),
        pytest.param(
            {"Author": "shadow", "Book": "off"},
            None,
            ("Author", "live"),
            "Author cannot be asked for live: Author (live) moves the authority, and the new store must go by the rows"
            " of Book (off), which it does not have: ask for Book at dualwrite first, or for Author at shadow at most",
            id="authority moved beside a needed model at off",
        ),
        pytest.param(
            {"Author": "live", "Book": "shadow"},
            None,
            ("Author", "complete"),
            "Author cannot be asked for complete: Author (complete) is related to Book (shadow), written in the old"
            " store, which Author would not feed any more: ask for Book at live first, or for Author at rampdown at"
            " most",
            id="complete beside a model that has not moved",
        ),
        pytest.param(
            {"Author": "shadow", "Book": "shadow"},
            "shelf",
            ("Author", "live"),
            "Author cannot be asked for live: cohort 'shelf' is split: Author (live) with the authority moved, Book"
            " (shadow) without; single writes span them, so ask for all of them at live or later, or for all at shadow"
            " or earlier (`crossfade flip --cohort` asks for all at once)",
            id="split cohort",
        ),
    ],
)
def test_an_illegal_request_is_refused(
    shelf: Shelf, asked: dict[str, str], cohort: str | None, flip: tuple[str, str], told: str
) -> None:
    """With the text, exit code 2, and nothing written."""
    shelf.ask(cohort, **asked)

    outcome = shelf.run("flip", *flip)

    assert (2, "", f"crossfade: {told}\n") == outcome
    assert asked == shelf.asked()


def test_complete_beside_off_is_refused(shelf: Shelf) -> None:
    """Both rules that it breaks are told."""
    shelf.ask(Author="rampdown", Book="off")

    outcome = shelf.run("flip", "Author", "complete")

    assert 2 == outcome.code
    assert (
        "Author (complete) moves the authority, and the new store must go by the rows of Book (off)"
        in outcome.err
    )
    assert "; and Author (complete) is related to Book (off), written in the old store" in outcome.err
    assert {"Author": "rampdown", "Book": "off"} == shelf.asked()


def test_a_cohort_is_asked_as_a_whole(shelf: Shelf) -> None:
    """The way that the refusal of a split names."""
    shelf.ask("shelf", Author="shadow", Book="shadow")

    outcome = shelf.run("flip", "--cohort", "Author", "live")

    assert (0, "") == (outcome.code, outcome.err)
    assert {"Author": "live", "Book": "live"} == shelf.asked()


def test_the_way_back_is_warned_of_and_never_refused(shelf: Shelf) -> None:
    """Whoever wants to go back does not have to argue."""
    shelf.ask(Author="shadow", Book="shadow")

    outcome = shelf.run("flip", "Author", "off")

    assert (0, "") == (outcome.code, outcome.err)
    assert "it will be held as long as this is asked for: Book (shadow) refers to Author (off)" in outcome.out
    assert {"Author": "off", "Book": "shadow"} == shelf.asked()


def test_a_request_that_has_nothing_to_do_with_it_does_not_stand_in_the_way(shelf: Shelf) -> None:
    """What is wrong already, and is about others, is for `crossfade flags check`."""
    (shelf.root / "schema.prisma").write_text(SCHEMA + "model Note {\n  id Int @id\n}\n")
    shelf.ask(Author="off", Book="live", Note="off")

    outcome = shelf.run("flip", "Note", "live")

    assert (0, "") == (outcome.code, outcome.err)
    assert "live" == shelf.asked()["Note"]


def test_the_way_out_of_an_illegal_request_is_open(shelf: Shelf) -> None:
    """It may lead through steps that leave something illegal; going further into it is refused."""
    shelf.ask(Author="complete", Book="off")

    out = shelf.run("flip", "Book", "dualwrite")
    further = shelf.run("flip", "Author", "complete")
    shelf.ask(Author="rampdown", Book="dualwrite")
    back_in = shelf.run("flip", "Author", "complete")

    assert (0, "") == (out.code, out.err)
    assert (
        "it will be held as long as this is asked for: Author (complete) is related to Book (dualwrite)"
        in out.out
    )
    assert 0 == further.code
    assert 2 == back_in.code


def test_a_broken_file_of_a_related_model_is_named(shelf: Shelf) -> None:
    """It cannot be known what that model is asked for, and `off` would be a guess."""
    shelf.ask(Author="dualwrte", Book="off")

    outcome = shelf.run("flip", "Book", "dualwrite")

    assert 2 == outcome.code
    assert "flags/Author.yaml:4: unknown stage 'dualwrte'" in outcome.err
    assert "off" == shelf.asked()["Book"]


def test_in_a_shared_store_relations_do_not_matter(shelf: Shelf) -> None:
    """Every row is there for both sides."""
    shelf.ask(Author="off", Book="off")

    outcome = shelf.run("flip", "Book", "live", CROSSFADE_TOPOLOGY="shared")

    assert (0, "") == (outcome.code, outcome.err)
