"""Child processes that never outlive this one.

A `Child` is a server under a small supervisor (`supervisor.py`), which stops it when this process ends for whatever
reason, `kill -9` included. Everything here is synchronous and safe to call through `asyncio.to_thread`; starting
takes about 40 ms beside what the server itself needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from crossfade.errors import EmbeddedError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_MARGIN = 5.0
"""Seconds that the supervisor may need beyond the grace it gives the server."""


class Child:
    """One supervised server process; make it with `start`."""

    def __init__(
        self, supervisor: subprocess.Popen[bytes], lifeline: IO[bytes], pid: int, grace: float
    ) -> None:
        self._supervisor = supervisor
        self._lifeline = lifeline
        self._grace = grace
        self.pid = pid
        """The process id of the server itself, which is also its process group."""

    @property
    def supervisor_pid(self) -> int:
        """The process id of the supervisor."""
        return self._supervisor.pid

    @classmethod
    def start(
        cls,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        orphan_signal: signal.Signals = signal.SIGKILL,
        grace: float = 5.0,
        log_file: Path | None = None,
        remove: Path | None = None,
    ) -> Child:
        """Start a server and return once it runs (not: once it is ready).

        Args:
            argv: the program and its arguments; they are visible to every user, so put secrets into `env`.
            env: the whole environment of the server; None means that of this process.
            cwd: where the server runs.
            user: the user id to run as, with that user's own group and no others. Only root may set it.
            stop_signal: what asks the server to stop.
            orphan_signal: what the kernel sends to the server should the supervisor itself be killed.
            grace: seconds between the stop signal and SIGKILL to all that is left.
            log_file: takes the server's output, appended; None discards it.
            remove: a directory that the supervisor deletes once it has stopped the server.

        Raises:
            EmbeddedError: the program cannot be started.
        """
        order = {
            "argv": [os.fspath(part) for part in argv],
            "env": None if env is None else dict(env),
            "cwd": None if cwd is None else os.fspath(cwd),
            "user": user,
            "group": None if user is None else pwd.getpwuid(user).pw_gid,
            "stop_signal": int(stop_signal),
            "orphan_signal": int(orphan_signal),
            "grace": grace,
            "remove": None if remove is None else os.fspath(remove),
            "parent": os.getpid(),
        }
        with Path(log_file or os.devnull).open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        lifeline, answers = supervisor.stdin, supervisor.stdout
        assert lifeline is not None
        assert answers is not None
        word = rest = ""
        # The supervisor says in `answers` why it could not; a broken pipe says nothing more.
        with answers, contextlib.suppress(BrokenPipeError):
            lifeline.write(json.dumps(order).encode() + b"\n")
            lifeline.flush()
            word, _, rest = answers.readline().decode(errors="replace").strip().partition(" ")
        if word == "started":
            return cls(supervisor, lifeline, int(rest), grace)
        with contextlib.suppress(BrokenPipeError):
            lifeline.close()
        supervisor.wait()
        name = Path(os.fspath(argv[0])).name
        raise EmbeddedError(f"cannot start {name}: {rest or 'its supervisor ended at once'}")

    def poll(self) -> int | None:
        """The server's exit status (128 + n after signal n), or None while it runs."""
        return self._supervisor.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the server has ended by itself and return its exit status.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        try:
            status = self._supervisor.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from None
        self._release()
        return status

    def stop(self, timeout: float | None = None) -> int:
        """Stop the server, wait until nothing of it is left, and return its exit status.

        Args:
            timeout: seconds between the stop signal and SIGKILL; the default is the `grace` given at the start.
        """
        grace = self._grace if timeout is None else timeout
        if self.poll() is None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                self._lifeline.write(str(grace).encode())
        self._release()
        try:
            return self._supervisor.wait(grace + _MARGIN)
        except subprocess.TimeoutExpired:
            # The kernel then ends the server by `orphan_signal`.
            self._supervisor.kill()
            return self._supervisor.wait()

    def _release(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._lifeline.close()
