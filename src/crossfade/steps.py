"""Taking a step, for whoever wants one: the walkers that follow requests, and the guard that takes models back.

Rules:

* A step is taken when the planner permits it wherever the models that are moving now come to stand, and when its gates
  hold. It is written with the figures that the gates had.
* One step of a model at a time; and authorities change hands one cohort at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager

from crossfade.errors import StageMoveError
from crossfade.gates import Gate, GateName, Gates
from crossfade.moving import Mover
from crossfade.notices import Notices
from crossfade.planner import Planner
from crossfade.stages import Stage, is_forward, moves_authority
from crossfade.store.view import RecordView
from crossfade.store.waiting import within

EITHER = "either store"
_ANSWER_SECONDS = 10.0
"""Whoever wants to walk a model back must not wait for long behind one that asks its gates."""


class ShutError(StageMoveError):
    """Gates do not hold; the reason says what to do."""

    def __init__(self, current: Stage, wanted: Stage, gates: Sequence[Gate], *, is_alone: bool) -> None:
        self.gates = tuple(gates)
        named = [gate.why if is_alone else f"{gate.model}: {gate.why}" for gate in gates]
        super().__init__(gates[0].model, current, wanted, "; ".join(named))

    @property
    def kind(self) -> str:
        """Which gates they are, whatever their figures."""
        return " ".join(f"{gate.model}.{gate.name}" for gate in self.gates)

    @property
    def is_a_matter_of_seconds(self) -> bool:
        """Whether there is nothing to do but to wait for a lease to end."""
        return all(gate.name is GateName.SETTLED for gate in self.gates)


class Steps:
    """Takes steps, one after the other where they have to be.

    Args:
        mover: writes them.
        view: what the record says.
        planner: which steps the relations permit.
        gates: what must hold.
        notices: hears of the gates.
    """

    def __init__(
        self, mover: Mover, view: RecordView, planner: Planner, gates: Gates, notices: Notices
    ) -> None:
        self._mover = mover
        self._view = view
        self._planner = planner
        self._gates = gates
        self._notices = notices
        self._moving: dict[str, Stage] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def moving(self) -> Mapping[str, Stage]:
        """The models that this process is moving now, and where to."""
        return self._moving

    async def take(
        self,
        models: Sequence[str],
        current: Stage,
        step: Stage,
        *,
        by: str,
        reason: str = "requested",
        pauses: bool = False,
    ) -> bool:
        """Take a step of `models` together; False if they are not at `current` any more when their turn comes.

        Raises:
            ShutError: gates do not hold.
            StageMoveError: it is not possible now; the reason says why.
            CrossfadeError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError: a store failed.
        """
        async with AsyncExitStack() as turns:
            for model in sorted(models):
                await turns.enter_async_context(self._turns.setdefault(model, asyncio.Lock()))
            if moves_authority(current, step):
                await turns.enter_async_context(self._one_at_a_time)
            if any(self._view.record(model).stage is not current for model in models):
                return False
            try:
                with self._under_way(models, step):
                    self._check(models, step)
                    figures = await self._pass_gates(models, current, step)
                    await self._mover.move(models, step, by=by, reason=reason, pauses=pauses, gates=figures)
            finally:
                await self._view.refresh()
        return True

    @contextmanager
    def _under_way(self, models: Sequence[str], step: Stage) -> Iterator[None]:
        self._moving |= dict.fromkeys(models, step)
        try:
            yield
        finally:
            for model in models:
                del self._moving[model]

    def _check(self, models: Sequence[str], step: Stage) -> None:
        """Return if the planner permits the step wherever the models that are moving now come to stand.

        Raises:
            StageMoveError: it does not.
        """
        stages = {spec.name: self._view.record(spec.name).stage for spec in self._mover.schema}
        others = {model: stage for model, stage in self._moving.items() if model not in models}
        for model in models:
            self._planner.check_move(stages, model, step)
            self._planner.check_move(stages | others, model, step)

    async def _pass_gates(self, models: Sequence[str], current: Stage, step: Stage) -> dict[str, str]:
        """Return the figures of the gates if every gate of the step holds; back, there is nothing to tell of.

        Raises:
            ShutError: one does not; the reason says what to do.
        """
        unmet = await within(_ANSWER_SECONDS, self._gates.unmet(models, current, step), EITHER)
        if unmet:
            raise ShutError(current, step, unmet, is_alone=len(models) == 1)
        if not is_forward(current, step):
            return {}
        found = await within(_ANSWER_SECONDS, self._gates.read(models, dict.fromkeys(models, step)), EITHER)
        self._notices.read(found)
        return {
            str(gate.name) if len(models) == 1 else f"{model} {gate.name}": gate.figure
            for model in models
            for gate in found[model]
        }
