"""Flags in files: reading, watching and editing."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crossfade.errors import FlagError
from crossfade.events import Event, FlagRejected
from crossfade.flags import Changes, Flag
from crossfade.flags.files import FileFlags, load_flags, read_flags, write_stage
from crossfade.stages import Stage

MODELS = ("User", "Order")
FLAGS = Path(__file__).parents[2] / "flags"


class Recorder:
    """An observer that keeps what it hears, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._heard: asyncio.Queue[Event] = asyncio.Queue()

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self._heard.put_nowait(event)

    async def next(self) -> Event:
        return await asyncio.wait_for(self._heard.get(), 10)


def text(model: str = "User", stage: str = "off", more: str = "") -> str:
    return f"model: {model}\nowner: team\ndescription: What it is.\nstage: {stage}\n{more}"


def put(directory: Path, content: str | bytes, model: str = "User") -> Path:
    path = directory / f"{model}.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


async def change(changes: Changes) -> Flag:
    return await asyncio.wait_for(anext(changes), 10)


def test_a_flag_is_read_whole(tmp_path: Path) -> None:
    """Every key arrives, and `off` is the stage and not YAML's false."""
    path = put(tmp_path, text(stage="off", more="sample: 0.25\ncohort: money\ngates: {lag: 2}\n"))

    assert read_flags(tmp_path, MODELS)["User"] == Flag(
        model="User",
        stage=Stage.OFF,
        sample=0.25,
        owner="team",
        description="What it is.",
        cohort="money",
        gates={"lag": 2.0},
        source=str(path),
    )


def test_a_model_without_a_file_is_off(tmp_path: Path) -> None:
    """Nobody has asked for anything yet."""
    assert read_flags(tmp_path, MODELS) == {"User": Flag("User"), "Order": Flag("Order")}


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (text(more="colour: red\n"), 5, "unknown key 'colour'"),
        (text(stage="lvie"), 4, "unknown stage 'lvie'; stages are off, dualwrite"),
        (text(stage=""), 4, "stage is empty"),
        (text(stage="[off]"), 4, "stage must be text"),
        (text(more="stage: live\n"), 5, "'stage' is given twice"),
        (text(more="sample: 1.5\n"), 5, "sample must be from 0 to 1, not 1.5"),
        (text(more="sample: half\n"), 5, "sample must be a number, not 'half'"),
        (text(more="sample: nan\n"), 5, "sample must be a number"),
        (text(more="gates:\n  lag: soon\n"), 6, "gates.lag must be a number, not 'soon'"),
        (text(more="gates: 3\n"), 5, "gates must hold"),
        (text(more="cohort:\n"), 5, "cohort is empty"),
        (text("Invoice"), 1, "unknown model 'Invoice'; the schema has Order, User"),
        (text("Order"), 1, "must be in a file called Order.yaml"),
        (text(more="sample: [1\n"), 6, "is not valid YAML"),
        (text() + "\tx: 1\n", 5, "is not valid YAML"),
        (text().encode() + b"cohort: \xff\n", 5, "is not UTF-8"),
        ("model: User\n", None, "owner and description and stage must be given"),
        ("", None, "is empty"),
        ("User\n", None, "must hold `key: value` lines"),
        ("a: \x00\n", None, "is not valid YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int | None, problem: str
) -> None:
    """The file, the line and what is wrong with it, in one line of text."""
    path = put(tmp_path, content)

    with pytest.raises(FlagError) as caught:
        read_flags(tmp_path, MODELS)

    assert caught.value.source == (str(path) if line is None else f"{path}:{line}")
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """What is no regular file is refused, because to read it might never end."""
    os.mkfifo(tmp_path / "User.yaml")

    with pytest.raises(FlagError, match="is not a regular file"):
        read_flags(tmp_path, MODELS)


def test_a_very_long_file_is_not_read(tmp_path: Path) -> None:
    """A file is refused by its length, before YAML takes seconds over it."""
    put(tmp_path, text(more="# " + "x" * 64 * 1024))

    with pytest.raises(FlagError, match="is longer than 64 KiB"):
        read_flags(tmp_path, MODELS)


def test_all_broken_files_are_listed_at_once(tmp_path: Path) -> None:
    """A cold start says everything that must be mended."""
    put(tmp_path, text(stage="lvie"))
    put(tmp_path, text("Order", "shdow"), "Order")

    with pytest.raises(FlagError, match=r"2 files cannot be used: .*shdow.*; .*lvie"):
        read_flags(tmp_path, MODELS)


def test_a_usable_file_beside_a_broken_one_is_read(tmp_path: Path) -> None:
    """One bad file does not hide the others."""
    put(tmp_path, text(stage="lvie"))
    put(tmp_path, text("Order", "shadow"), "Order")

    flags, problems = load_flags(tmp_path, None)

    assert {model: flag.stage for model, flag in flags.items()} == {"Order": Stage.SHADOW}
    assert len(problems) == 1


def test_a_missing_directory_is_one_problem(tmp_path: Path) -> None:
    """The directory is named, not every file in it."""
    with pytest.raises(FlagError, match="nowhere: the directory of flag files cannot be read"):
        read_flags(tmp_path / "nowhere", MODELS)


def test_a_file_with_the_other_suffix_is_not_overlooked(tmp_path: Path) -> None:
    """`User.yml` would otherwise be ignored in silence."""
    (tmp_path / "User.yml").write_text(text())

    with pytest.raises(FlagError, match=r"must be in a file called User\.yaml"):
        read_flags(tmp_path, MODELS)


@pytest.mark.parametrize("stage", list(Stage))
def test_no_beginning_of_a_file_asks_for_another_stage(tmp_path: Path, stage: Stage) -> None:
    """A file that is caught half-written is refused, or asks for what the whole file asks for."""
    whole = text(stage=stage, more="sample: 0.5\ncohort: money\n")
    for length in range(len(whole)):
        put(tmp_path, whole[:length])
        flags, problems = load_flags(tmp_path, None)

        assert problems or flags["User"].stage is stage


def test_the_committed_flags_can_be_read() -> None:
    """The reference application starts with all ten models off, and each has an owner."""
    flags = read_flags(FLAGS, None)

    assert len(flags) == 10
    assert {Stage.OFF} == {flag.stage for flag in flags.values()}
    assert all(flag.owner for flag in flags.values())


class TestWriteStage:
    """Editing the stage in place."""

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize(
        "written", ["off", "'off'", '"off"', "  off   # not yet, see the runbook: ünsafe"]
    )
    def test_only_the_stage_changes(self, tmp_path: Path, written: str, end: str) -> None:
        """Comments, order, blanks and line ends stay byte for byte."""
        head = f"# stage: of User{end}model: User{end}stage: "
        tail = f"{end}{end}owner: ö  # who{end}description: 'stage: off'{end}"
        path = put(tmp_path, head + written + tail)
        new = written.replace("'", "").replace('"', "").replace("off", "shadow", 1)

        assert write_stage(tmp_path, "User", Stage.SHADOW) == (Stage.OFF, Stage.SHADOW)
        assert (head + new + tail).encode() == path.read_bytes()
        assert [path] == list(tmp_path.iterdir())

    def test_every_stage_can_be_written_and_read_back(self, tmp_path: Path) -> None:
        """Forward through all stages and back to where it was, to the byte."""
        path = put(tmp_path, text())
        original = path.read_bytes()
        for stage in (*Stage, *reversed(Stage)):
            write_stage(tmp_path, "User", stage)

            assert stage is read_flags(tmp_path, MODELS)["User"].stage
        assert original == path.read_bytes()

    def test_a_missing_file_is_made(self, tmp_path: Path) -> None:
        """What it makes can be read."""
        assert write_stage(tmp_path, "User", Stage.DUALWRITE) == (Stage.OFF, Stage.DUALWRITE)
        assert Stage.DUALWRITE is read_flags(tmp_path, MODELS)["User"].stage

    def test_a_broken_file_is_left_alone(self, tmp_path: Path) -> None:
        """Nobody's half-finished edit is overwritten."""
        path = put(tmp_path, text(stage="lvie"))

        with pytest.raises(FlagError, match="lvie"):
            write_stage(tmp_path, "User", Stage.LIVE)

        assert text(stage="lvie") == path.read_text()

    def test_a_stage_that_is_not_one_word_is_left_alone(self, tmp_path: Path) -> None:
        """An anchor that another line refers to cannot be replaced safely."""
        content = "model: User\nowner: &word shadow\ndescription: x\nstage: *word\n"
        path = put(tmp_path, content)

        with pytest.raises(FlagError):
            write_stage(tmp_path, "User", Stage.LIVE)

        assert content == path.read_text()

    def test_links_and_modes_stay(self, tmp_path: Path) -> None:
        """The file behind a link changes, and keeps its mode."""
        (tmp_path / "flags").mkdir()
        real = put(tmp_path, text())
        real.chmod(0o640)
        link = tmp_path / "flags/User.yaml"
        link.symlink_to(real)

        write_stage(tmp_path / "flags", "User", Stage.SHADOW)

        assert link.is_symlink()
        assert text(stage="shadow") == real.read_text()
        assert stat.S_IMODE(real.stat().st_mode) == 0o640

    def test_a_missing_directory_is_not_made(self, tmp_path: Path) -> None:
        """A mistyped directory must not swallow a flag."""
        with pytest.raises(FlagError, match="no such directory"):
            write_stage(tmp_path / "flgas", "User", Stage.LIVE)


class TestWatching:
    """Changes that take effect without a restart."""

    @pytest.fixture
    def recorder(self) -> Recorder:
        return Recorder()

    @pytest.fixture
    async def flags(self, tmp_path: Path, recorder: Recorder) -> AsyncIterator[FileFlags]:
        """A provider that polls so seldom that only notices of change can be what a test sees."""
        put(tmp_path, text())
        async with FileFlags(tmp_path, MODELS, recorder, poll_seconds=3600) as provider:
            yield provider

    async def test_a_change_in_place_arrives(self, tmp_path: Path, flags: FileFlags) -> None:
        """The new flag is handed over, and is the current one by then."""
        changes = flags.changes()
        put(tmp_path, text(stage="shadow"))

        assert Stage.SHADOW is (await change(changes)).stage
        assert Stage.SHADOW is flags.current()["User"].stage

    async def test_a_change_by_rename_arrives(self, tmp_path: Path, flags: FileFlags) -> None:
        """As editors and `write_stage` do it."""
        changes = flags.changes()
        write_stage(tmp_path, "User", Stage.LIVE)

        assert Stage.LIVE is (await change(changes)).stage

    async def test_a_new_file_arrives(self, tmp_path: Path, flags: FileFlags) -> None:
        """A model that had no file gets one."""
        changes = flags.changes()
        put(tmp_path, text("Order", "dualwrite"), "Order")

        assert Stage.DUALWRITE is (await change(changes)).stage
        assert Stage.DUALWRITE is flags.current()["Order"].stage

    async def test_every_reader_hears_a_change(self, tmp_path: Path, flags: FileFlags) -> None:
        """Two readers do not take changes from each other."""
        first, second = flags.changes(), flags.changes()
        put(tmp_path, text(stage="shadow"))

        assert await change(first) == await change(second)

    @pytest.mark.parametrize("bad", [text(stage="lvie"), "model: Us", ""])
    async def test_an_invalid_file_keeps_the_last_good_flag(
        self, tmp_path: Path, flags: FileFlags, recorder: Recorder, bad: str
    ) -> None:
        """It is reported, and mending the file is all that is needed."""
        path = put(tmp_path, text(stage="shadow"))
        changes = flags.changes()
        assert Stage.SHADOW is (await change(changes)).stage
        put(tmp_path, bad)
        rejected = await recorder.next()

        assert isinstance(rejected, FlagRejected)
        assert rejected.source.startswith(str(path))
        assert Stage.SHADOW is flags.current()["User"].stage

        put(tmp_path, text(stage="live"))
        assert Stage.LIVE is (await change(changes)).stage

    async def test_a_deleted_file_keeps_the_last_good_flag(
        self, tmp_path: Path, flags: FileFlags, recorder: Recorder
    ) -> None:
        """Removing a file is not a request for `off`."""
        changes = flags.changes()
        path = put(tmp_path, text(stage="live"))
        await change(changes)
        path.unlink()

        assert await recorder.next() == FlagRejected(
            str(path), "the file is gone; the last stage it asked for stays"
        )
        assert Stage.LIVE is flags.current()["User"].stage

    async def test_the_end_of_the_provider_ends_the_readers(self, tmp_path: Path, recorder: Recorder) -> None:
        """A reader's loop finishes by itself."""
        async with FileFlags(tmp_path, MODELS, recorder) as provider:
            changes = provider.changes()

        assert [flag async for flag in changes] == []
        assert [flag async for flag in provider.changes()] == []

    async def test_a_cold_start_refuses_a_broken_file(self, tmp_path: Path, recorder: Recorder) -> None:
        """There is no last good flag to fall back on."""
        put(tmp_path, text(stage="lvie"))

        with pytest.raises(FlagError, match="lvie"):
            async with FileFlags(tmp_path, MODELS, recorder):
                pass


async def test_a_rejected_content_is_reported_once(tmp_path: Path) -> None:
    """Looking at the same bad file again and again says nothing new; another bad content does."""
    recorder = Recorder()
    put(tmp_path, text())
    async with FileFlags(tmp_path, MODELS, recorder, poll_seconds=0.001) as flags:
        changes = flags.changes()
        put(tmp_path, text(stage="lvie"))
        await recorder.next()
        for stage in ("dualwrite", "shadow", "live"):
            put(tmp_path, text("Order", stage), "Order")
            await change(changes)
        assert len(recorder.events) == 1

        put(tmp_path, text(stage="evil"))
        await recorder.next()
        assert len(recorder.events) == 2


async def test_a_file_that_is_bad_for_a_moment_is_not_reported(tmp_path: Path) -> None:
    """Saving in place passes through an empty file, and some editors through none."""
    recorder = Recorder()
    put(tmp_path, text())
    async with FileFlags(tmp_path, MODELS, recorder) as flags:
        changes = flags.changes()
        for stage in (*Stage, *Stage):
            put(tmp_path, b"").unlink()
            put(tmp_path, text(stage=stage))
            write_stage(tmp_path, "Order", stage)
            while flags.current()["User"].stage is not stage:
                await change(changes)

    assert recorder.events == []


async def test_a_directory_that_is_swapped_is_noticed(tmp_path: Path) -> None:
    """A mounted volume is updated by moving a link; no notice of change comes from inside the old directory."""
    for name, stage in (("one", "off"), ("two", "shadow")):
        (tmp_path / name).mkdir()
        put(tmp_path / name, text(stage=stage))
    link = tmp_path / "flags"
    link.symlink_to("one")
    async with FileFlags(link, MODELS, Recorder(), poll_seconds=0.01) as flags:
        changes = flags.changes()
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(link)

        assert Stage.SHADOW is (await change(changes)).stage


async def test_a_directory_that_is_gone_is_one_report(tmp_path: Path) -> None:
    """Every flag stays, and coming back needs no restart."""
    recorder = Recorder()
    directory = tmp_path / "flags"
    directory.mkdir()
    put(directory, text(stage="live"))
    put(directory, text("Order", "live"), "Order")
    async with FileFlags(directory, MODELS, recorder, poll_seconds=0.01) as flags:
        changes = flags.changes()
        directory.rename(tmp_path / "away")
        rejected = await recorder.next()
        (tmp_path / "away").rename(directory)
        put(directory, text(stage="rampdown"))
        await change(changes)

        assert [FlagRejected(str(directory), rejected.problem)] == recorder.events
        assert tuple(flags.current()[model].stage for model in MODELS) == (Stage.RAMPDOWN, Stage.LIVE)


async def test_a_slow_reader_gets_the_latest_of_each_model() -> None:
    """Old requests are not replayed one by one."""
    changes = Changes()
    for flag in (Flag("User", Stage.SHADOW), Flag("Order", Stage.LIVE), Flag("User", Stage.LIVE)):
        changes.put(flag)
    changes.close()

    assert [Flag("User", Stage.LIVE), Flag("Order", Stage.LIVE)] == [flag async for flag in changes]
