"""One running migration: flags, repository and conductor, opened and closed together.

This is the composition root that an application uses::

    async with Migration(schema, {Side.PRISMA: ..., Side.SQLALCHEMY: ...}, FileFlags(...)) as migration:
        db = DatabaseClient(migration.repository)

At the start every model stands where its flag says. From then on a flag that changes is a request, and the conductor
walks the model there one step at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Self

from crossfade.conductor import Conductor
from crossfade.events import NullObserver, Observer
from crossfade.flags import Flag, FlagProvider
from crossfade.operation import Pinner
from crossfade.paths import Path
from crossfade.repository import Repository, RepositorySettings
from crossfade.schema import Schema
from crossfade.stages import Side


class Migration:
    """Wires the parts. `repository` and `conductor` exist while it is open."""

    repository: Repository
    conductor: Conductor

    def __init__(
        self,
        schema: Schema,
        paths: Mapping[Side, Path],
        flags: FlagProvider,
        *,
        observer: Observer | None = None,
        settings: RepositorySettings | None = None,
        pinner: Pinner | None = None,
    ) -> None:
        self._schema = schema
        self._paths = paths
        self._flags = flags
        self._observer = observer or NullObserver()
        self._settings = settings
        self._pinner = pinner
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._flags)
            changes = self._flags.changes()  # before the first look, so that no change falls in between
            flags = self._flags.current()
            known = {name: flag for name, flag in flags.items() if name in self._schema.models}
            self.repository = await stack.enter_async_context(
                Repository(
                    self._schema,
                    self._paths,
                    stages={name: flag.stage for name, flag in known.items()},
                    observer=self._observer,
                    settings=self._settings,
                    pinner=self._pinner,
                )
            )
            for name, flag in known.items():
                self.repository.sample(name, flag.sample)
            self.conductor = await stack.enter_async_context(Conductor(self.repository, self._observer))
            task = asyncio.create_task(self._follow_flags(changes), name="flags")
            stack.push_async_callback(_stop, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _follow_flags(self, changes: AsyncIterator[Flag]) -> None:
        async for flag in changes:
            self.repository.sample(flag.model, flag.sample)
            self.conductor.request(flag.model, flag.stage, by=flag.owner or "flag")


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
