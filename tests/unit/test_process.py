"""A supervised child ends with its parent, whatever ends the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are awaited by pidfd")

Ended = Callable[..., bool]

PARENT = """
import os, signal, sys, time
from pathlib import Path
from crossfade.embedded.process import Child

child = Child.start(["sleep", "300"], remove=Path(sys.argv[1]))
print(child.pid, child.supervisor_pid, flush=True)
"""


@pytest.mark.parametrize(
    "ending",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os._exit(0)",
        "sys.exit(0)",
        # A forked worker that lives on and holds a copy of the lifeline.
        "os.fork() or time.sleep(15)\nos.kill(os.getpid(), signal.SIGKILL)",
        # Another program, started later, must not inherit the lifeline.
        "import subprocess\nsubprocess.Popen(['sleep', '15'], close_fds=False)\nos.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_the_server_ends_when_its_parent_ends(ending: str, tmp_path: Path, ended: Ended) -> None:
    """Killed, terminated or done: the server goes, then its supervisor, then the directory it was to remove."""
    directory = tmp_path / "throwaway"
    directory.mkdir()
    (directory / "file").touch()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT + ending, directory], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server, supervisor = map(int, parent.stdout.readline().split())

        assert ended(server)
        assert ended(supervisor)
        assert not directory.exists()
        parent.stdout.close()


def test_the_server_ends_when_its_supervisor_is_killed(ended: Ended) -> None:
    """There is no moment in which nobody is responsible for the server."""
    child = Child.start(["sleep", "300"])

    os.kill(child.supervisor_pid, signal.SIGKILL)

    assert ended(child.pid)
    assert -signal.SIGKILL == child.stop()


def test_stop_asks_first(ended: Ended) -> None:
    """The stop signal is the one that was asked for, and the status says that it worked."""
    child = Child.start(["sleep", "300"], stop_signal=signal.SIGINT)
    assert child.poll() is None

    assert 128 + signal.SIGINT == child.stop()

    assert ended(child.pid, 0)
    assert 128 + signal.SIGINT == child.poll()
    assert 128 + signal.SIGINT == child.stop()


def test_stop_kills_what_does_not_listen(tmp_path: Path, ended: Ended) -> None:
    """A server that ignores the stop signal is killed after the grace, with all that it started."""
    log = tmp_path / "log"
    # The second process leaves the group, as a server's own children do.
    script = "trap '' TERM; setsid sleep 300 & echo $!; while :; do sleep 300; done"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = Child.start(["sh", "-c", f"exec >{fifo}; {script}"], log_file=log)
    with fifo.open() as output:
        grandchild = int(output.readline())

        assert 128 + signal.SIGKILL == child.stop(timeout=0.1)

        assert ended(child.pid, 0)
        assert ended(grandchild, 0)


def test_wait_returns_the_status_of_a_server_that_ends_by_itself(tmp_path: Path) -> None:
    """Output goes to the log file, and a directory is left alone unless the server had to be stopped."""
    log = tmp_path / "log"
    child = Child.start(
        ["sh", "-c", "echo $WORD; exit 7"],
        env={"WORD": "hello", "PATH": os.environ["PATH"]},
        log_file=log,
        remove=tmp_path,
    )

    assert 7 == child.wait(10)
    assert "hello\n" == log.read_text()


def test_wait_gives_up() -> None:
    """A server that runs on is a TimeoutError, and still there."""
    child = Child.start(["sleep", "300"])

    with pytest.raises(TimeoutError, match="still runs"):
        child.wait(0.01)

    assert child.poll() is None
    child.stop()


def test_a_program_that_cannot_be_started_is_named() -> None:
    """The reason is the system's own."""
    with pytest.raises(EmbeddedError, match="cannot start no-such-program: No such file"):
        Child.start(["/nowhere/no-such-program"])


def test_the_environment_of_a_server_is_in_nobodys_arguments() -> None:
    """Arguments are visible to every user, and an environment may hold a password."""
    child = Child.start(["sleep", "300"], env={"SECRET": "s3cret", "PATH": os.environ["PATH"]})

    assert b"s3cret" not in Path(f"/proc/{child.supervisor_pid}/cmdline").read_bytes()
    child.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as another user")
def test_root_can_start_a_server_as_another_user(tmp_path: Path, ended: Ended) -> None:
    """The server has that user's own group and no others, and still ends with its supervisor."""
    log = tmp_path / "log"
    assert 0 == Child.start(["sh", "-c", "id -u; id -G"], user=65534, log_file=log, cwd=Path("/")).wait(10)
    assert "65534\n65534\n" == log.read_text()

    child = Child.start(["sleep", "300"], user=65534, cwd=Path("/"))
    os.kill(child.supervisor_pid, signal.SIGKILL)
    assert ended(child.pid)
    child.stop()
