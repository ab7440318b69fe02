"""The command line as a user runs it: real processes, their output and their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from crossfade.dsn import Dsn
from crossfade.embedded.postgres import EmbeddedPostgres
from crossfade.metrics import scrape

ROOT = Path(__file__).parents[2]
MODELS = """
// model Commented {
model User {
  id Int @id
}

  model   Order{
  id Int @id
}
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Project:
    """A directory with a schema and flags, and the command run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flags = root / "flags"
        self.flags.mkdir()
        (root / "schema.prisma").write_text(MODELS)
        for model in ("User", "Order"):
            self.flag(model).write_text(
                f"# keep me\nmodel: {model}\nowner: team\ndescription: d\nstage: off # and me\n"
            )

    def flag(self, model: str) -> Path:
        return self.flags / f"{model}.yaml"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        return {**kept, "COLUMNS": "120", "PYTHONWARNINGS": "error"}

    def run(self, *arguments: str, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def metrics(project: Project) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `serve-metrics`, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade", "serve-metrics", "--port", "0"],
        cwd=project.root,
        env=project.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline().split()[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_help_names_the_commands(project: Project) -> None:
    """And asks for no configuration."""
    code, out, err = project.run("--help")

    assert (code, err) == (0, "")
    assert all(command in out for command in ("status", "flip", "serve-metrics", "engine"))


def test_the_version_is_shown(project: Project) -> None:
    """By the option, and nothing else."""
    code, out, _ = project.run("--version")

    assert code == 0
    assert out.startswith("crossfade 0.")


def test_flip_writes_the_flag_file(project: Project) -> None:
    """Forward and back; the file is then what it was, comments included."""
    before = project.flag("User").read_text()
    code, out, err = project.run("flip", "User", "live", "--by", "ann")

    assert (code, err) == (0, "")
    assert project.flag("User").read_text() == before.replace("stage: off", "stage: live")
    assert "User: off → live, asked for by ann" in out
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["dualwrite", "shadow", "live"]

    code, out, _ = project.run("flip", "User", "off")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["shadow", "dualwrite", "off"]
    assert project.flag("User").read_text() == before


def test_flip_to_the_same_stage_says_so(project: Project) -> None:
    """It is no error, and the file is not touched."""
    before = project.flag("User").stat().st_mtime_ns
    code, out, _ = project.run("flip", "User", "off")

    assert (code, out) == (0, "User: flags/User.yaml asks for off already; nothing to do.\n")
    assert project.flag("User").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Usr", "live"), "crossfade: unknown model 'Usr'; the schema has Order, User\n"),
        (
            ("User", "lvie"),
            "crossfade: unknown stage 'lvie'; stages are off, dualwrite, shadow, live, rampdown, complete\n",
        ),
        (("User", "live", "--flags", "nowhere"), "crossfade: nowhere: there is no such directory\n"),
        (
            ("User", "live", "--schema", "no.prisma"),
            "crossfade: cannot read the schema no.prisma: No such file or directory\n",
        ),
    ],
)
def test_flip_refuses_with_one_line(project: Project, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, nothing on stdout, nothing changed."""
    before = {path: path.read_text() for path in project.flags.iterdir()}

    assert project.run("flip", *arguments) == (2, "", message)
    assert {path: path.read_text() for path in project.flags.iterdir()} == before


def test_flip_leaves_a_half_written_file_alone(project: Project) -> None:
    """The file and the reason are named."""
    project.flag("User").write_text("model: User\nowner: te")
    code, out, err = project.run("flip", "User", "live")

    assert (code, out) == (2, "")
    assert err == "crossfade: flags/User.yaml: description and stage must be given\n"
    assert project.flag("User").read_text() == "model: User\nowner: te"


def test_without_a_schema_the_flag_files_name_the_models(project: Project) -> None:
    """For a service that is deployed without its schema."""
    (project.root / "schema.prisma").unlink()

    assert project.run("flip", "Order", "dualwrite").code == 0
    assert "unknown model 'Usr'; the schema has Order, User" in project.run("flip", "Usr", "off").err


def test_status_shows_every_model(project: Project) -> None:
    """What is asked for, how much is compared, and who owns it."""
    project.flag("Order").unlink()
    project.run("flip", "User", "shadow")
    code, out, err = project.run("status")

    assert (code, err) == (0, "")
    assert [line.split()[1:8:2] for line in out.splitlines() if "User" in line] == [
        ["User", "shadow", "100%", "team"]
    ]
    assert "off (no file)" in out


def test_status_as_json(project: Project) -> None:
    """For programs."""
    code, out, _ = project.run("status", "--json", CROSSFADE_FLAGS_DIR="flags")
    order, user = json.loads(out)["models"]

    assert code == 0
    assert (order["model"], user["model"]) == ("Order", "User")
    assert user == {
        "model": "User",
        "requested": "off",
        "sample": 1.0,
        "owner": "team",
        "cohort": None,
        "source": "flags/User.yaml",
    }


def test_status_names_broken_flag_files(project: Project) -> None:
    """One line each, after the table of all the others; exit code 2."""
    project.flag("User").write_text(project.flag("User").read_text().replace("off", "lvie"))
    (project.flags / "Invoice.yaml").write_text("model: Invoice\n")
    code, out, err = project.run("status")

    assert code == 2
    assert "unusable file" in out
    assert [line.split(" ")[1] for line in err.splitlines()] == ["flags/Invoice.yaml:", "flags/User.yaml:5:"]
    broken = json.loads(project.run("status", "--json").out)
    assert [model["requested"] for model in broken["models"]] == ["off", None]


def test_serve_metrics_follows_the_flags(
    project: Project, metrics: tuple[subprocess.Popen[str], str]
) -> None:
    """A flip is served without a restart; an invalid file is logged; Ctrl-C is a normal end."""
    process, address = metrics
    assert process.stderr is not None
    project.run("flip", "User", "shadow")
    project.flag("Order").write_text("stage")

    # The rejection is logged after the flip was taken, because it came later.
    assert json.loads(process.stderr.readline())["source"] == "flags/Order.yaml"
    served = {(one.name, one.labels.get("model")): one.value for one in scrape(address)}
    assert served["crossfade_requested_stage_position", "User"] == 2
    assert served["crossfade_requested_stage_position", "Order"] == 0
    assert served["crossfade_flag_rejections_total", "Order"] == 1

    code, out, _ = project.run("status", "--metrics", address, "--json", "--flags", str(ROOT / "flags"))
    assert code == 0
    assert {"operations", "mismatched", "stage"} <= set(json.loads(out)["models"][0])

    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_dead_metrics_address_is_one_line(project: Project) -> None:
    """Exit code 2."""
    code, _, err = project.run("status", "--metrics", "http://127.0.0.1:9/metrics")

    assert code == 2
    assert err == "crossfade: no metrics at http://127.0.0.1:9/metrics: [Errno 111] Connection refused\n"


def test_a_traceback_is_shown_on_request_only(project: Project) -> None:
    """`CROSSFADE_DEBUG=1` is for whoever mends crossfade."""
    assert "Traceback" not in project.run("flip", "Usr", "live").err
    assert "Traceback" in project.run("flip", "Usr", "live", CROSSFADE_DEBUG="1").err


def test_the_installed_command_is_the_same(project: Project) -> None:
    """`crossfade` and `python -m crossfade` answer alike."""
    command = shutil.which("crossfade", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run(
        [command, "flip", "Usr", "live"], cwd=project.root, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == project.run("flip", "Usr", "live")[::2]


async def test_engine_check_starts_the_real_engine(project: Project) -> None:
    """On a real database it answers; without one the reason is one line that holds no password."""
    async with EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("tried")
        code, out, err = await asyncio.to_thread(project.run, "engine", "check", "--dsn", dsn)

    assert code == 0, err
    assert ["installed", "database", "query", "transaction"] == [line.split()[1] for line in out.splitlines()]
    assert {"ok"} == {line.split()[0] for line in out.splitlines()}

    code, out, err = project.run("engine", "check", "--dsn", dsn)
    assert (code, out) == (2, "")
    assert err.startswith("crossfade: cannot reach the database at 127.0.0.1:")
    assert len(err.splitlines()) == 1
    password = Dsn.parse(dsn).password
    assert password
    assert password not in err
