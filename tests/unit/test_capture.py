"""What a process notes of its own writes."""

from crossfade.capture import Capture
from crossfade.keys import Key
from crossfade.operation import Action

ONE, TWO = Key("Author", (("id", 1),)), Key("Author", (("id", 2),))


def write(capture: Capture, *keys: Key, many: bool = False) -> bool:
    """A write with nothing beside it."""
    return capture.end("Author", None, keys, capture.begin("Author", None, many=many), many=many)


def test_writes_one_after_the_other_do_not_overlap() -> None:
    """Each begins after the other has ended."""
    capture = Capture()

    assert [False, False] == [write(capture, ONE), write(capture, ONE)]


def test_of_two_crossing_writes_the_later_end_is_an_overlap() -> None:
    """Whoever ends second knows that something else happened to the key meanwhile."""
    capture = Capture()
    first, second = capture.begin("Author", None, many=False), capture.begin("Author", None, many=False)

    assert not capture.end("Author", None, [ONE], second, many=False)
    assert capture.end("Author", None, [ONE], first, many=False)


def test_crossing_writes_of_different_keys_do_not_overlap() -> None:
    """Rows are independent."""
    capture = Capture()
    first = capture.begin("Author", None, many=False)
    write(capture, TWO)

    assert not capture.end("Author", None, [ONE], first, many=False)


def test_a_write_beside_a_write_of_many_rows_overlaps() -> None:
    """Nobody knows which rows the other one touches; both orders of ending count."""
    capture = Capture()
    many = capture.begin("Author", None, many=True)
    assert write(capture, ONE)

    single = capture.begin("Author", None, many=False)
    capture.end("Author", None, [TWO], many, many=True)
    assert capture.end("Author", None, [ONE], single, many=False)


def test_what_is_forgotten_counts_as_an_overlap() -> None:
    """Memory is bounded; where it ends, the answer is the safe one."""
    capture = Capture(remembered=1)
    first = capture.begin("Author", None, many=False)
    write(capture, ONE)
    write(capture, TWO)

    assert capture.end("Author", None, [ONE], first, many=False)


def test_suspects_are_counted_once_and_keep_their_blame() -> None:
    """A key that is suspected again waits anew, and the first blame stays."""
    capture = Capture()
    blame = Action.UPDATE
    capture.suspect([ONE], 1.0, blame=blame)
    capture.suspect([ONE, TWO], 2.0)

    assert 2 == capture.pending("Author")
    assert 2.0 == capture.suspects[ONE].since
    assert blame == capture.suspects[ONE].blame

    capture.clear(ONE)
    capture.clear(ONE)
    assert 1 == capture.pending("Author")


def test_the_version_tells_whether_anything_was_written() -> None:
    """It moves at the start and at the end of a write, and counts those under way."""
    capture = Capture()
    before = capture.version(["Author"])
    ticket = capture.begin("Author", None, many=False)
    during = capture.version(["Author", "Book"])
    capture.end("Author", None, [ONE], ticket, many=False)
    after = capture.version(["Author"])

    assert 3 == len({before[0], during[0], after[0]})
    assert [0, 1, 0] == [before[1], during[1], after[1]]


def test_a_row_is_quiet_when_no_write_under_way_can_concern_it() -> None:
    """A write that names another row does not; one that names none may."""
    capture = Capture()
    named = capture.begin("Author", ONE, many=False)
    assert [False, True] == [capture.is_quiet(ONE), capture.is_quiet(TWO)]

    unnamed = capture.begin("Author", None, many=False)
    capture.end("Author", ONE, [ONE], named, many=False)
    assert [False, False] == [capture.is_quiet(ONE), capture.is_quiet(TWO)]

    capture.end("Author", None, [TWO], unnamed, many=False)
    assert [True, True] == [capture.is_quiet(ONE), capture.is_quiet(TWO)]


def test_a_write_of_many_rows_is_told_which_writes_it_crossed() -> None:
    """Only those of its model that ended after it began."""
    capture = Capture()
    write(capture, ONE)
    many = capture.begin("Author", None, many=True)
    write(capture, TWO)

    assert [TWO] == capture.crossed("Author", many)
    assert [] == capture.crossed("Book", many)


def test_a_row_is_disturbed_while_it_is_suspect_or_an_unnamed_one_is() -> None:
    """A suspect that is not named by its primary key may be any row."""
    capture = Capture()
    capture.suspect([ONE], 0.0)
    assert [True, False] == [capture.disturbed("Author", [ONE]), capture.disturbed("Author", [TWO])]

    vague = Key("Author", (("email", "e"),))
    capture.suspect([vague], 0.0, vague=True)
    assert capture.disturbed("Author", [TWO])

    capture.clear(vague)
    assert not capture.disturbed("Author", [TWO])


def test_a_delete_shakes_the_models_that_it_cascades_to() -> None:
    """Their rows change by themselves: first while it runs, then until it has been verified on both sides."""
    capture = Capture()
    reached = frozenset({"Book"})
    ticket = capture.begin("Author", ONE, many=False, shakes=reached)
    during, running = capture.version(["Book"])
    capture.end("Author", ONE, [ONE], ticket, many=False, shakes=reached)
    after, still_running = capture.version(["Book"])

    assert (1, 0) == (running, still_running)
    assert after > during
    capture.suspect([ONE], 0.0, shakes=reached)
    capture.suspect([ONE], 1.0, shakes=reached)
    assert capture.is_shaken("Book")
    assert 0 == capture.pending("Book")
    capture.clear(ONE)
    assert not capture.is_shaken("Book")
