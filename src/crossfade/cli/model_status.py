"""`crossfade status MODEL`: everything there is to know about where one model stands."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from crossfade.cli.explaining import Facts, sentence
from crossfade.cli.following import standing_on
from crossfade.errors import StoreUnavailableError
from crossfade.gates import AllGates
from crossfade.stages import Side
from crossfade.store.leadership import Leadership
from crossfade.store.record import read_history
from crossfade.store.requests import read_requests
from crossfade.store.signals import read_processes
from crossfade.store.view import LEASE_SECONDS

if TYPE_CHECKING:
    from crossfade.flags.flag import Flag
    from crossfade.schema import Schema
    from crossfade.store import Store

_ENTRIES = 5


async def read_facts(
    model: str, schema: Schema, stores: Mapping[Side, Store], flags: Mapping[str, Flag]
) -> Facts:
    """Ask the stores about `model`.

    Raises:
        StoreUnavailableError: the legacy store does not answer.
        InstallError: crossfade is not installed in a store that answers.
    """
    async with standing_on(schema, stores) as at:
        legacy = stores[Side.PRISMA]
        async with legacy.transaction() as connection:
            request = (await read_requests(connection, legacy)).get(model)
            processes = await read_processes(connection, legacy)
            entries = await read_history(connection, legacy, model, after=0)
        flag = flags.get(model)
        facts = Facts(
            model=model,
            record=at.view.record(model),
            flag=flag if flag is not None and flag.source else None,
            request=request,
            leads=await Leadership(legacy).is_taken(),
            processes=processes,
            entries=entries[-_ENTRIES:],
        )
        return await _with_gates(facts, schema, stores, flags)


async def _with_gates(
    facts: Facts, schema: Schema, stores: Mapping[Side, Store], flags: Mapping[str, Flag]
) -> Facts:
    from dataclasses import replace

    if facts.onward is None or facts.record.final or facts.record.moving_to is not None:
        return facts
    try:
        gates = await AllGates(stores, schema, flags.get).read([facts.model], {facts.model: facts.onward})
    except StoreUnavailableError as error:
        return replace(facts, gates_problem=str(error))
    return replace(facts, gates=gates[facts.model])


def tell(facts: Facts) -> None:
    """Write it for a person."""
    typer.echo(sentence(facts))
    for line in _lines(facts):
        typer.echo(line)


def _lines(facts: Facts) -> Iterator[str]:
    record, flag, request = facts.record, facts.flag, facts.request
    yield ""
    yield f"record    {record.stage} since {record.since:%Y-%m-%d %H:%M:%S} UTC, epoch {record.epoch}"
    if record.paused:
        yield f"          paused: no step forward until `crossfade resume {facts.model}`"
    if facts.leads and request is not None:
        cohort = "" if request.cohort is None else f", in cohort {request.cohort}"
        yield f"asked for {request.stage} by {request.by}{cohort}"
        if flag is not None and flag.stage is not request.stage:
            yield f"          {flag.source} asks for {flag.stage}, which is not what the leader has heard"
    elif flag is not None:
        yield f"asked for {flag.stage} by {flag.source}"
    if not facts.leads:
        yield "conductor no process conducts"
    if facts.gates_problem:
        yield f"gates     cannot be read: {facts.gates_problem}"
    for number, gate in enumerate(facts.gates):
        title = f"gates of the step to {facts.onward}" if number == 0 else ""
        if title:
            yield ""
            yield title
        remedy = f"; {gate.remedy}" if gate.remedy else ""
        yield f"  {'holds' if gate.holds else 'SHUT ':<5}  {gate.name:<11}  {gate.figure}{remedy}"
    if facts.processes:
        yield ""
        yield "processes"
        yield from _fleet(facts)
    if facts.entries:
        yield ""
        yield "history"
        for entry in facts.entries:
            moving = "" if entry.moving_to is None else f" → {entry.moving_to}"
            pause = "" if entry.pause is None else f" (writers waited {entry.pause * 1000:.0f} ms)"
            yield f"  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.stage}{moving}  {entry.by}: {entry.reason}{pause}"


def _fleet(facts: Facts) -> Iterator[str]:
    width = max(len(process.name) for process in facts.processes)
    for process in facts.processes:
        epoch = process.epochs.get(facts.model)
        if process.age > LEASE_SECONDS:
            state = f"not heard of for {process.age:,.0f} s"
        elif epoch is None:
            state = "conducts alone" if process.leads else "does not follow it"
        elif epoch == facts.record.epoch:
            state = f"follows epoch {epoch}"
        else:
            state = f"follows epoch {epoch}, behind"
        yield f"  {process.name:<{width}}  {state}{', leads' if process.leads else ''}"


def as_json(facts: Facts) -> str:
    """The same for machines."""
    record, request = facts.record, facts.request
    document: dict[str, Any] = {
        "model": facts.model,
        "why": sentence(facts),
        "asked_for": None if facts.asked is None else str(facts.asked),
        "next_step": None if facts.step is None else str(facts.step),
        "conducted": facts.leads,
        "record": {
            "stage": str(record.stage),
            "moving_to": None if record.moving_to is None else str(record.moving_to),
            "epoch": record.epoch,
            "since": record.since.isoformat(),
            "by": record.by,
            "reason": record.reason,
            "paused": record.paused,
            "final": record.final,
            "forced": record.forced,
        },
        "request": None
        if request is None
        else {
            "stage": str(request.stage),
            "by": request.by,
            "cohort": request.cohort,
            "held": request.held or None,
            "at": request.at.isoformat(),
        },
        "gates": [
            {
                "name": str(gate.name),
                "holds": gate.holds,
                "figure": gate.figure,
                "remedy": gate.remedy or None,
                "number": gate.number,
            }
            for gate in facts.gates
        ],
        "processes": [
            {
                "name": process.name,
                "leads": process.leads,
                "epoch": process.epochs.get(facts.model),
                "seconds_ago": round(process.age, 3),
            }
            for process in facts.processes
        ],
        "history": [
            {
                "at": entry.at.isoformat(),
                "stage": str(entry.stage),
                "moving_to": None if entry.moving_to is None else str(entry.moving_to),
                "by": entry.by,
                "reason": entry.reason,
                "pause": entry.pause,
            }
            for entry in facts.entries
        ],
    }
    return json_format.dumps(document, indent=2, ensure_ascii=False)
