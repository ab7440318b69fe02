"""What a flag service said last, kept in a file for a start without it.

The file says what it was kept for: service, environment, application. One that was kept for anything else, was changed,
cut off or written long ago is worth nothing, and says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from time import time

from crossfade.engine.cache import digest, write_atomically
from crossfade.errors import FlagError

KEPT_SECONDS = 3_600.0
"""How long what was said last counts. Later on nobody knows what people have switched since, and a model stays where
its record has it, with nothing asked of it."""
_FORMAT = 1


class Remembered:
    """One file of a cache folder, for one service, environment and application; many processes may share it.

    Args:
        directory: the cache folder; made when something is kept.
        identity: what the file is kept for.
        clock: the time in seconds since 1970.
    """

    def __init__(self, directory: Path, *identity: str, clock: Callable[[], float] = time) -> None:
        self.path = directory / "flags" / f"{digest(*identity)}.json"
        self._identity = list(identity)
        self._clock = clock

    def read(self) -> str | None:
        """Return what was kept, or None when nothing was.

        Raises:
            FlagError: what is there is not intact, not for this, or too old.
        """
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            body, fingerprint, at = str(kept["body"]), kept["sha256"], float(kept["at"])
            is_intact = kept["format"] == _FORMAT and fingerprint == _fingerprint(self._identity, body, at)
            is_ours = kept["for"] == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FlagError(str(self.path), f"cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            is_intact = is_ours = False
        if not is_ours:
            raise FlagError(
                str(self.path), "is damaged, or not what was kept for this service: it is not used"
            )
        if not is_intact:
            raise FlagError(str(self.path), "is damaged: it is not used")
        age = self._clock() - at
        if not 0 <= age <= KEPT_SECONDS:
            raise FlagError(
                str(self.path), f"was kept {age / 3600:.1f} hours ago, which is too long: it is not used"
            )
        return body

    def keep(self, body: str) -> None:
        """Keep what the service says now.

        Raises:
            FlagError: it cannot be written.
        """
        at = self._clock()
        kept = {
            "format": _FORMAT,
            "for": self._identity,
            "at": at,
            "sha256": _fingerprint(self._identity, body, at),
            "body": body,
        }
        try:
            write_atomically(self.path, json.dumps(kept).encode())
        except OSError as error:
            raise FlagError(
                str(self.path),
                f"cannot be written: {error.strerror}; a start without the service will know of no flag",
            ) from None


def _fingerprint(identity: list[str], body: str, at: float) -> str:
    return hashlib.sha256(json.dumps([identity, body, at]).encode()).hexdigest()
