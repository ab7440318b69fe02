"""Where a team asks for stages: the flag files, or (see `marketplace.demo.features`) a real Unleash server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from crossfade.flags.files import write_stage
from crossfade.stages import Stage

ENVIRONMENT: Final = "development"
APP_NAME: Final = "marketplace"


class Desk(Protocol):
    """Takes the wishes of the walk."""

    async def ask(self, model: str, stage: Stage) -> None:
        """Make the flag of `model` ask for `stage`."""


class FileDesk:
    """The flag files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def ask(self, model: str, stage: Stage) -> None:
        """Edit the file of `model`."""
        await asyncio.to_thread(write_stage, self._directory, model, stage)


@dataclass(frozen=True, slots=True)
class UnleashPlace:
    """Where an Unleash server is, and how processes follow its flags. `url` is that of its admin page."""

    url: str
    token: str
    admin_token: str

    @property
    def api_url(self) -> str:
        """What a client's URL is."""
        return f"{self.url}/api"

    def environment(self) -> dict[str, str]:
        """The variables by which another process follows these flags."""
        return {
            "CROSSFADE_UNLEASH_URL": self.api_url,
            "CROSSFADE_UNLEASH_TOKEN": self.token,
            "CROSSFADE_UNLEASH_ENVIRONMENT": ENVIRONMENT,
            "CROSSFADE_UNLEASH_APP_NAME": APP_NAME,
        }
