"""The parent of the drill's processes: it has loaded what they need, and forks one whenever it is told to.

It is a plain loop of one thread, because only such a process can be forked safely. `processes.Nursery` is the other end
of its socket; when that closes, everything ends.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from crossfade.drill.order import ProcessOrder
from crossfade.drill.processes import die_with_parent, short_name
from crossfade.drill.worker import work


def main() -> None:
    """Serve one drill."""
    path = Path(sys.argv[1])
    with socket.socket(socket.AF_UNIX) as listener, short_name(path) as name:
        listener.bind(name)
        path.chmod(0o600)
        listener.listen(1)
        gc.freeze()  # what is loaded stays shared between all processes
        drill, _ = listener.accept()
    _Nursery(drill).serve()


class _Nursery:
    def __init__(self, drill: socket.socket) -> None:
        self._drill = drill
        self._children: dict[int, int] = {}
        self._wakes, wakeup = os.pipe()
        for end in (self._wakes, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._drill, selectors.EVENT_READ)
        selector.register(self._wakes, selectors.EVENT_READ)
        buffer = b""
        while True:
            for key, _ in selector.select():
                if key.fd == self._wakes:
                    os.read(self._wakes, 4096)
                    self._reap()
                    continue
                chunk = self._drill.recv(65536)
                if not chunk:
                    return  # the kernel kills the children with this process
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._do(json.loads(line))

    def _do(self, message: dict[str, Any]) -> None:
        number = message["number"]
        match message["do"]:
            case "start":
                child = os.fork()
                if child == 0:
                    self._become(message)
                self._children[child] = number
            case "kill":
                for child, owner in self._children.items():
                    if owner == number:  # not reaped yet, so the number is still this child's
                        os.kill(child, message["signal"])

    def _reap(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            number = self._children.pop(child)
            with suppress(OSError):
                self._drill.sendall(json.dumps([number, status]).encode() + b"\n")

    def _become(self, message: dict[str, Any]) -> None:
        """Be the process that was asked for, and never return."""
        status = 1
        try:
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._drill.close()
            log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            work(ProcessOrder.from_json(message["order"]))
            status = 0
        except BaseException as error:  # noqa: BLE001 - the last place where a process can say what ended it
            with suppress(BaseException):
                import traceback  # noqa: PLC0415 - only a process that failed needs it

                traceback.print_exception(error)
                sys.stderr.flush()
        finally:
            os._exit(status)


if __name__ == "__main__":
    main()
