"""The small program that stands between this process and a server it started.

It is run by path (`python -I -S supervisor.py`), so it imports nothing but the standard library and starts in about
30 ms. `crossfade.embedded.process.Child` is the other end.

Rules:

* Standard input carries one line of JSON, the order, and then stays open. It is the lifeline: only the parent holds
  the other end, and the kernel closes it when the parent ends, whatever ended it. The order is not in the arguments,
  because those are readable by every user and the environment of a server may hold a password.
* A process that the parent forked may hold a copy of the lifeline, so the parent itself is watched too (a pidfd).
* When the lifeline breaks: stop signal, a few seconds of grace, then SIGKILL to everything that is left of the server.
  Servers detach their own children from the process group (PostgreSQL does), therefore this program adopts orphans
  (`PR_SET_CHILD_SUBREAPER`) and kills what it adopts.
* Should this program itself be killed, the kernel signals the server (`PR_SET_PDEATHSIG`).

The first line on standard output is `started PID` or `failed REASON`. The exit status is the server's, or 128 + n when
signal n ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIFELINE = 0


def main() -> int:
    """Read the order, run the server, and end when it ends or the parent does."""
    buffer = b""
    while not buffer.endswith(b"\n"):
        chunk = os.read(LIFELINE, 65536)
        if not chunk:  # the parent died before it wrote the whole order
            return 1
        buffer += chunk
    order: dict[str, Any] = json.loads(buffer)
    watch = _Watch(order["parent"])
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        server = _start(order, prctl)
    except (OSError, subprocess.SubprocessError) as error:
        _report(f"failed {getattr(error, 'strerror', None) or error}")
        return 127
    _report(f"started {server.pid}")
    grace = watch.until_end(server)
    lifeline_broke = server.poll() is None
    if lifeline_broke:
        _stop(server, order["stop_signal"], order["grace"] if grace is None else grace)
    _kill_descendants()
    if order["remove"] and lifeline_broke:
        shutil.rmtree(order["remove"], ignore_errors=True)
    status = server.wait()
    return status if status >= 0 else 128 - status


class _Watch:
    """Waits for the first of: the server's end, the parent's end, a broken lifeline, a request to stop."""

    def __init__(self, parent: int) -> None:
        self._signals, wakeup = os.pipe()
        for end in (self._signals, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        self._asked_to_stop = False
        self._poll = select.poll()
        self._poll.register(self._signals, select.POLLIN)
        self._poll.register(LIFELINE, select.POLLIN)
        # Without pidfds, or with a parent that is gone already, the lifeline has to do.
        with contextlib.suppress(AttributeError, OSError):
            self._poll.register(os.pidfd_open(parent), select.POLLIN)

    def _note(self, number: int, _frame: object) -> None:
        self._asked_to_stop = self._asked_to_stop or number != signal.SIGCHLD

    def until_end(self, server: subprocess.Popen[bytes]) -> float | None:
        """Return the seconds of grace the parent asked for with its last words, if it had any."""
        words = b""
        while server.poll() is None and not self._asked_to_stop:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._signals:
                    os.read(descriptor, 4096)
                elif descriptor == LIFELINE and (chunk := os.read(LIFELINE, 4096)):
                    words += chunk
                else:
                    return float(words) if words else None
        return None


def _start(order: dict[str, Any], prctl: Callable[[int, int], None]) -> subprocess.Popen[bytes]:
    supervisor = os.getpid()

    def in_child() -> None:
        # After the change of user, which clears this setting.
        prctl(PR_SET_PDEATHSIG, order["orphan_signal"])
        if os.getppid() != supervisor:
            os._exit(1)

    identity: dict[str, Any] = {}
    if order["user"] is not None:
        identity = {"user": order["user"], "group": order["group"], "extra_groups": []}
    return subprocess.Popen(
        order["argv"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        cwd=order["cwd"],
        env=order["env"],
        start_new_session=True,
        preexec_fn=in_child,  # noqa: PLW1509 - there is one thread here, and only it forks
        **identity,
    )


def _stop(server: subprocess.Popen[bytes], number: int, grace: float) -> None:
    server.send_signal(number)
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        # The server leads a session of its own, so its group has the number of the server itself.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _kill_descendants() -> None:
    """Kill and reap what the server left behind, which this process has adopted."""
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _children() -> list[int]:
    """The children of this process; none where the system does not list them."""
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text("ascii").split()]
    except OSError:
        return []


def _prctl() -> Callable[[int, int], None]:
    if not sys.platform.startswith("linux"):
        return lambda _option, _value: None
    function = ctypes.CDLL(None).prctl

    def call(option: int, value: int) -> None:
        function(option, value, 0, 0, 0)

    return call


def _report(line: str) -> None:
    """Tell the parent, and close the pipe: nothing more will follow."""
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, which the lifeline shows too
        os.write(1, line.encode() + b"\n")
    os.dup2(2, 1)


if __name__ == "__main__":
    sys.exit(main())
