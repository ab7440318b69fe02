"""What relations permit."""

from contextlib import suppress

import pytest

from crossfade.errors import StageMoveError, UnknownModelError
from crossfade.planner import Planner, split_cohorts
from crossfade.stages import MOVES, Stage, Topology
from small_schema import SMALL

PLANNER = Planner(SMALL)  # Author is the parent of Book


@pytest.mark.parametrize(
    ("author", "book", "model", "wanted"),
    [
        (Stage.OFF, Stage.OFF, "Author", Stage.DUALWRITE),
        (Stage.DUALWRITE, Stage.OFF, "Book", Stage.DUALWRITE),
        (Stage.SHADOW, Stage.DUALWRITE, "Author", Stage.LIVE),
        (Stage.DUALWRITE, Stage.LIVE, "Book", Stage.RAMPDOWN),
        (Stage.LIVE, Stage.RAMPDOWN, "Book", Stage.COMPLETE),
        (Stage.COMPLETE, Stage.COMPLETE, "Book", Stage.RAMPDOWN),
        (Stage.DUALWRITE, Stage.OFF, "Author", Stage.OFF),
    ],
)
def test_permitted_moves(author: Stage, book: Stage, model: str, wanted: Stage) -> None:
    """Parents first, children first on the way back, neighbours close behind at the end."""
    PLANNER.check_move({"Author": author, "Book": book}, model, wanted)


@pytest.mark.parametrize(
    ("author", "book", "model", "wanted", "reason"),
    [
        (Stage.OFF, Stage.OFF, "Author", Stage.SHADOW, "one step at a time; move it to dualwrite first"),
        (Stage.COMPLETE, Stage.COMPLETE, "Book", Stage.OFF, "one step at a time; move it to rampdown first"),
        (Stage.LIVE, Stage.LIVE, "Book", Stage.LIVE, "one step at a time; it is there already"),
        (
            Stage.OFF,
            Stage.OFF,
            "Book",
            Stage.DUALWRITE,
            r"of Author \(off\); move the models it refers to first",
        ),
        (
            Stage.DUALWRITE,
            Stage.DUALWRITE,
            "Author",
            Stage.OFF,
            r"of Book \(dualwrite\); move the models that refer",
        ),
        (
            Stage.RAMPDOWN,
            Stage.SHADOW,
            "Author",
            Stage.COMPLETE,
            r"of Book \(shadow\); bring every related model",
        ),
        (
            Stage.COMPLETE,
            Stage.LIVE,
            "Book",
            Stage.SHADOW,
            r"of Author \(complete\); move the related models back",
        ),
        (
            Stage.SHADOW,
            Stage.OFF,
            "Author",
            Stage.LIVE,
            r"of Book \(off\); what its store must go by has to be on both sides: bring those models to dualwrite",
        ),
        (
            Stage.LIVE,
            Stage.DUALWRITE,
            "Book",
            Stage.OFF,
            r"of Author \(live\); as long as those have moved, its rows must be on both sides",
        ),
    ],
)
def test_refused_moves_name_the_models_and_the_remedy(
    author: Stage, book: Stage, model: str, wanted: Stage, reason: str
) -> None:
    """Whoever asked knows what to do next."""
    with pytest.raises(StageMoveError, match=reason) as refusal:
        PLANNER.check_move({"Author": author, "Book": book}, model, wanted)

    assert str(refusal.value).startswith(f"{model} stays at")


def test_an_unknown_model_is_refused() -> None:
    """With the list of those there are."""
    with pytest.raises(UnknownModelError, match="unknown model 'Autor'; the schema has Author, Book"):
        PLANNER.check_move({}, "Autor", Stage.LIVE)


@pytest.mark.parametrize(("current", "wanted"), sorted(MOVES))
def test_in_a_shared_store_a_model_moves_by_itself(current: Stage, wanted: Stage) -> None:
    """Every row is there for both sides, wherever its neighbours stand; a step is still a step."""
    planner = Planner(SMALL, Topology.SHARED)
    for other in Stage:
        planner.check_move({"Author": current, "Book": other}, "Author", wanted)

    with pytest.raises(StageMoveError, match="one step at a time"):
        planner.check_move({"Author": Stage.OFF, "Book": Stage.OFF}, "Author", Stage.LIVE)


@pytest.mark.parametrize(
    ("author", "book"),
    [
        (Stage.OFF, Stage.OFF),
        (Stage.DUALWRITE, Stage.OFF),
        (Stage.DUALWRITE, Stage.LIVE),
        (Stage.LIVE, Stage.COMPLETE),
        (Stage.COMPLETE, Stage.COMPLETE),
    ],
)
def test_requests_that_go_together(author: Stage, book: Stage) -> None:
    """A request may be far away: it is reached step by step."""
    assert [] == PLANNER.check_requests({"Author": author, "Book": book}, {"Author": "a", "Book": "b"})


@pytest.mark.parametrize(
    ("requests", "cohorts", "text"),
    [
        pytest.param(
            {"Author": Stage.OFF, "Book": Stage.SHADOW},
            {},
            "Book (shadow) refers to Author (off), and its rows cannot stand where theirs are missing: ask for Author"
            " at dualwrite first, or for Book at off",
            id="child before parent",
        ),
        pytest.param(
            {"Book": Stage.DUALWRITE},
            {},
            "Book (dualwrite) refers to Author (off), and its rows cannot stand where theirs are missing: ask for"
            " Author at dualwrite first, or for Book at off",
            id="child beside a parent that nobody asks for",
        ),
        pytest.param(
            {"Author": Stage.LIVE, "Book": Stage.OFF},
            {},
            "Author (live) moves the authority, and the new store must go by the rows of Book (off), which it does not"
            " have: ask for Book at dualwrite first, or for Author at shadow at most",
            id="authority moved beside a needed model at off",
        ),
        pytest.param(
            {"Author": Stage.COMPLETE, "Book": Stage.SHADOW},
            {},
            "Author (complete) is related to Book (shadow), written in the old store, which Author would not feed any"
            " more: ask for Book at live first, or for Author at rampdown at most",
            id="complete beside a model that has not moved",
        ),
        pytest.param(
            {"Author": Stage.LIVE, "Book": Stage.SHADOW},
            {"Author": "shelf", "Book": "shelf"},
            "cohort 'shelf' is split: Author (live) with the authority moved, Book (shadow) without; single writes span"
            " them, so ask for all of them at live or later, or for all at shadow or earlier (`crossfade flip --cohort`"
            " asks for all at once)",
            id="split cohort",
        ),
    ],
)
def test_requests_that_cannot_be_met_together(
    requests: dict[str, Stage], cohorts: dict[str, str | None], text: str
) -> None:
    """The text names the models, where they are asked to be, and what to ask for instead."""
    (refusal,) = PLANNER.check_requests(requests, cohorts)

    assert text == refusal.text
    assert {"Author", "Book"} == set(refusal.models)


def test_complete_beside_off_breaks_two_rules() -> None:
    """Each has its own remedy, so each is told."""
    texts = [
        refusal.text for refusal in PLANNER.check_requests({"Author": Stage.COMPLETE, "Book": Stage.OFF}, {})
    ]

    assert [
        (
            "Author (complete) moves the authority, and the new store must go by the rows of Book (off), which it does"
            " not have: ask for Book at dualwrite first, or for Author at shadow at most"
        ),
        (
            "Author (complete) is related to Book (off), written in the old store, which Author would not feed any"
            " more: ask for Book at live first, or for Author at rampdown at most"
        ),
    ] == texts


@pytest.mark.parametrize("author", Stage)
@pytest.mark.parametrize("book", Stage)
def test_a_refused_request_is_one_that_no_way_leads_to(author: Stage, book: Stage) -> None:
    """What is not refused can be reached step by step from `off`, and what is refused cannot be."""
    start = (Stage.OFF, Stage.OFF)
    reached, waiting = {start}, [start]
    while waiting:
        place = waiting.pop()
        for index, model in enumerate(("Author", "Book")):
            for wanted in Stage:
                stages = dict(zip(("Author", "Book"), place, strict=True))
                with suppress(StageMoveError):
                    PLANNER.check_move(stages, model, wanted)
                    there = (wanted, place[1]) if index == 0 else (place[0], wanted)
                    waiting += [there] if there not in reached else []
                    reached.add(there)

    assert ((author, book) in reached) == (not PLANNER.check_requests({"Author": author, "Book": book}))


def test_in_a_shared_store_only_cohorts_hold_requests_together() -> None:
    """Every row is there for both sides; a write still spans both clients."""
    planner = Planner(SMALL, Topology.SHARED)
    requests = {"Author": Stage.OFF, "Book": Stage.COMPLETE}

    assert [] == planner.check_requests(requests)
    assert split_cohorts(requests, {"Author": "c", "Book": "c"}) == planner.check_requests(
        requests, {"Author": "c", "Book": "c"}
    )


def test_a_request_for_an_unknown_model_is_refused() -> None:
    """With the list of those there are."""
    with pytest.raises(UnknownModelError, match="unknown model 'Autor'"):
        PLANNER.check_requests({"Autor": Stage.LIVE})
