"""Another process of the application: `python -m marketplace.demo.worker`.

It is a whole application: an engine, a migration, a reconciler, a conductor that may lead, and a share of the traffic.
What it does it writes into its journal, line by line, for whoever started it (`marketplace.demo.workers`), because it
may be killed without warning. Its order and the URLs of the stores come in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

from crossfade.dsn import Dsn
from crossfade.engine.launcher import ensure_engine
from crossfade.engine.parser import load_schema
from crossfade.events import Observers
from crossfade.logs import StructlogObserver, configure_logging
from marketplace.calls import Account
from marketplace.client import Front, MarketplaceClient
from marketplace.demo.application import Application
from marketplace.demo.broken import Fault
from marketplace.demo.desk import UnleashPlace
from marketplace.demo.facts import FactTeller
from marketplace.journal import Journal
from marketplace.journal_file import JournalFile, rows_from_json
from marketplace.population import Population
from marketplace.setup import SCHEMA_FILE
from marketplace.workload import Workload

ORDER: Final = "CROSSFADE_DEMO_ORDER"
READY: Final = "ready"
ACCOUNT: Final = "account"
LEADS: Final = "leads"
SPOILT: Final = "spoilt"
DONE: Final = "done"

_TELL_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker is to do. `start` holds the rows as they were before the traffic; `share` is its own.

    `conducts` says whether it may lead, `fault` what is broken on purpose.
    """

    journal: Path
    start: Path
    flags: Path
    share: int
    seed: int
    rate: float
    conducts: bool = True
    fault: Fault | None = None
    unleash: UnleashPlace | None = None
    name: str = "worker"

    def environment(self, application: Application) -> dict[str, str]:
        """The environment of the worker's process."""
        return {**os.environ, **application.environment(), ORDER: json.dumps(asdict(self), default=str)}

    @classmethod
    def read(cls) -> Self:
        """The order in this process's environment."""
        values: dict[str, Any] = json.loads(os.environ[ORDER])
        paths = {name: Path(values[name]) for name in ("journal", "start", "flags")}
        fault = None
        if values["fault"] is not None:
            name, since = values["fault"]
            fault = Fault(name, None if since is None else Path(since))
        unleash = None if values["unleash"] is None else UnleashPlace(**values["unleash"])
        return cls(**{**values, **paths, "fault": fault, "unleash": unleash})


async def work(order: Order) -> None:
    """Do what `order` says until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.to_thread(ensure_engine)
    legacy, target = (Dsn.parse(os.environ[f"CROSSFADE_{name}_DSN"]) for name in ("LEGACY", "TARGET"))
    application = Application(
        load_schema(SCHEMA_FILE), legacy, target, order.flags, order.fault, order.unleash
    )
    start = rows_from_json(json.loads(await asyncio.to_thread(order.start.read_text)))
    async with AsyncExitStack() as stack:
        file = stack.enter_context(JournalFile(order.journal))
        journal = Journal(start, file)
        account = _told(file)
        logs = StructlogObserver()
        stack.callback(logs.close)
        migration = application.migration(
            application.prisma(),
            Observers(FactTeller(file), logs),
            name=order.name,
            conduct=order.conducts,
            spoilt=lambda model, *, served: file.say(SPOILT, model, served, monotonic()),
        )
        await stack.enter_async_context(migration)
        known = Population(random.Random(order.seed), start, journal, order.share)  # noqa: S311
        front = Front(MarketplaceClient(migration.repository))
        workload = Workload(application.schema, front, known, journal, rate=order.rate, account=account)
        file.say(READY)
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell_who_leads(migration.conductor, file))
            await workload.run(stop)
            telling.cancel()
        await migration.repository.shadow.drain()
        file.say(DONE)


def _told(file: JournalFile) -> Account:
    """An account whose every change is told."""
    account = Account()

    def tell() -> None:
        failures = [[*what, count] for what, count in account.failures.items()]
        file.say(ACCOUNT, account.reads, account.writes, account.refusals, failures)

    account.changed = tell
    return account


async def _tell_who_leads(conductor: Any, file: JournalFile) -> None:
    led = None
    while True:
        if conductor.leads is not led:
            led = conductor.leads
            file.say(LEADS, led)
        await asyncio.sleep(_TELL_EVERY)


if __name__ == "__main__":
    configure_logging()
    asyncio.run(work(Order.read()))
