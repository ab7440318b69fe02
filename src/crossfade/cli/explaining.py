"""Why a model stands where it does and what would move it, in one sentence. Pure: it goes by facts that others read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crossfade.flags.flag import Flag
from crossfade.gates import Gate
from crossfade.moving import why_paused
from crossfade.stages import Stage, is_forward, next_step
from crossfade.store.record import Entry, Record
from crossfade.store.requests import Requested
from crossfade.store.signals import Process


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one model.

    `flag` is its file's, if any. `request` is what the leader noted last, `leads` whether there is a leader now.
    `gates` are those of its next step as they are now; `gates_problem` says why they could not be read.
    """

    model: str
    record: Record
    flag: Flag | None = None
    request: Requested | None = None
    leads: bool = False
    gates: Sequence[Gate] = ()
    gates_problem: str = ""
    processes: Sequence[Process] = ()
    entries: Sequence[Entry] = field(default=())

    @property
    def asked(self) -> Stage | None:
        """The stage that is asked for: by what the leader has heard; where nobody leads, by the file."""
        if self.request is not None and (self.leads or self.flag is None):
            return self.request.stage
        return self.flag.stage if self.flag is not None else None

    @property
    def step(self) -> Stage | None:
        """The step that is to be taken next."""
        return None if self.asked is None else next_step(self.record.stage, self.asked)

    @property
    def onward(self) -> Stage | None:
        """The step that the gates are about: the next one, or the one that would take the model forward."""
        return self.step or next_step(self.record.stage, list(Stage)[-1])

    @property
    def shut(self) -> list[Gate]:
        """The gates that do not hold."""
        return [gate for gate in self.gates if not gate.holds]


def sentence(facts: Facts) -> str:
    """Say in one sentence why the model stands where it does, and what would move it."""
    return f"{facts.model} {_predicate(facts)}."


def _predicate(facts: Facts) -> str:
    model, record, asked = facts.model, facts.record, facts.asked
    here = f"stands at {record.stage}"
    if record.final:
        return f"{here} for good: the move was made final, and nothing moves it any more"
    if record.moving_to is not None:
        who = (
            "" if facts.leads else ", but no process conducts; the next one that does completes or undoes it"
        )
        return f"is being handed over from {record.stage} to {record.moving_to}{who}"
    if record.forced:
        return (
            f"{here} because it was forced back, and stays until what was lost is listed:"
            f" run `crossfade rollback {model} --force` again when the target store answers"
        )
    if asked is None or facts.step is None:
        return f"{here}, {_at_rest(facts)}"
    return f"{here} and is asked for {asked}; {_waiting(facts, facts.step)}"


def _at_rest(facts: Facts) -> str:
    model, onward = facts.model, facts.onward
    here = "and nobody asks for anything" if facts.asked is None else "which is what is asked for"
    if onward is None:
        return f"{here}: the end of the way, which `crossfade finalize {model}` makes final"
    if facts.record.paused:
        return f"{here}; it goes no further because {why_paused(facts.record)}"
    flip = f"`crossfade flip {model} {onward}` would move it on"
    if not facts.leads:
        return f"{here}; {flip}, once a process conducts"
    if facts.shut:
        return f"{here}; {flip} once {_conditions(facts)}"
    return f"{here}; {flip}"


def _waiting(facts: Facts, step: Stage) -> str:
    record, request = facts.record, facts.request
    if not facts.leads:
        return "but no process conducts: start `crossfade conduct`, or an application that may lead"
    if record.paused and is_forward(record.stage, step):
        return f"it takes no step forward because {why_paused(record)}"
    if request is not None and request.held and request.wanted is step:
        return f"it waits before {step} because {request.held}"
    if facts.shut:
        return f"it waits before {step} because {'; '.join(gate.why for gate in facts.shut)}"
    return f"nothing keeps it from {step}, which is the next step"


def _conditions(facts: Facts) -> str:
    names = [str(gate.name) for gate in facts.shut]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    first = facts.shut[0]
    more = f" ({first.figure}; {first.remedy})" if len(names) == 1 else ""
    return f"its gate{'' if len(names) == 1 else 's'} {listed} hold{'s' if len(names) == 1 else ''}{more}"
