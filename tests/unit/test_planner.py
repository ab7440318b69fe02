"""What relations permit."""

import pytest

from crossfade.errors import StageMoveError, UnknownModelError
from crossfade.planner import Planner
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
        (Stage.OFF, Stage.OFF, "Author", Stage.SHADOW, "one step at a time"),
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
