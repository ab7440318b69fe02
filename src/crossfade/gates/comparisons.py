"""The gate that says what comparisons have proven: of each kind of operation, not of all in the mean.

A kind is an action that reads or writes. What counts are distinct keys, because the same row compared a thousand times
is one witness. They are counted in bitmaps that the fleet shares, in which a key's digest sets one bit: two keys with
the same bit count as one, and one that was ever mismatched counts as mismatched, which both err on the safe side.

Every kind that makes up a share of `rare` of the model's comparisons must be proven, and so must a rarer one that had a
mismatch. As *all* of them must pass, and one whose true share of mismatches is too large passes with a probability of
5 % at most, the model does too, however many kinds there are: such a test of several conditions at once needs no
correction (R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982). The
other rare kinds are named as unproven.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from crossfade.events import Verdict
from crossfade.gates.bounds import attainable, passes, still_needed, upper_bound
from crossfade.gates.figures import listed, rounded, told_share
from crossfade.gates.gate import Gate, GateName
from crossfade.stages import Side
from crossfade.store.fleet import EVIDENCE_BITS
from crossfade.store.signals import Kind
from crossfade.thresholds import GateThresholds

_COUNTED = (Verdict.MATCHED, Verdict.MISMATCHED, Verdict.IN_FLIGHT, Verdict.ERROR, Verdict.SKIPPED)
"""What makes a kind of operation a frequent one. A question that has more than one right answer (`ignored`) says
nothing about either side, so it neither asks for proof nor gives any."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """One kind that must be proven: what its share of mismatches is shown to lie below, and what keeps it."""

    kind: Kind
    bound: float
    is_proven: bool
    refusals: str
    """How many of its comparisons the new side could not take part in, where that is too many."""

    @property
    def told(self) -> str:
        return f"{self.kind.action}, {_told(self.kind)}"


def comparisons(
    model: str, kinds: Iterable[Kind], thresholds: GateThresholds, compared_with: Side | None
) -> Gate:
    """What share of mismatches is ruled out, for the kind of operation of which least is proven.

    Args:
        model: whose.
        kinds: what was compared.
        thresholds: what is wanted.
        compared_with: the side that is asked for comparison.
    """
    wanted = thresholds.comparisons
    needed, rare = _divided(kinds, thresholds.rare)
    more = f"; unproven: {listed([f'{kind.action} ({_told(kind)})' for kind in rare])}" if rare else ""
    if not needed:
        remedy = _more(0, 0, wanted, "of each kind")
        return Gate(model, GateName.COMPARISONS, f"nothing was compared yet{more}", remedy, 1.0)
    judged = [_judge(kind, thresholds, compared_with) for kind in needed]
    failing = [one for one in judged if not one.is_proven]
    refused = [one for one in judged if one.refusals]
    worst = max(failing or judged, key=lambda one: one.bound)
    figure = f"≤ {told_share(worst.bound)} ({worst.told})"
    if failing:
        figure += f", which is more than {told_share(wanted)}"
    if len(failing) > 1:
        figure += f"; so it is for {listed([one.told for one in failing if one is not worst])}"
    if refused:
        figure += f"; the new side does not know how to do {listed([one.refusals for one in refused])}"
    return Gate(
        model, GateName.COMPARISONS, figure + more, _remedy(model, failing, refused, wanted), worst.bound
    )


def keys_needed(kinds: Iterable[Kind], thresholds: GateThresholds) -> dict[str, int | None]:
    """Return, by action, about how many more distinct keys the gate needs; None where no number would do.

    For estimates: kinds that are proven, or may stay unproven, are left out. Of nothing, nothing is known.
    """
    needed, _ = _divided(kinds, thresholds.rare)
    wanted = thresholds.comparisons
    return {
        kind.action: _keys_needed(kind.compared, kind.mismatched, wanted)
        for kind in needed
        if not (kind.compared and passes(kind.compared, kind.mismatched, wanted))
    }


def _divided(kinds: Iterable[Kind], rare: float) -> tuple[list[Kind], list[Kind]]:
    """The kinds that must be proven, the most frequent at least; and the others."""
    weighed = [(kind, sum(kind.verdicts.get(verdict, 0) for verdict in _COUNTED)) for kind in kinds]
    total = sum(weight for _, weight in weighed)
    least = min(rare * total, max((weight for _, weight in weighed), default=0))
    parts: tuple[list[Kind], list[Kind]] = ([], [])
    for kind, weight in weighed:
        parts[0 if kind.mismatched or (weight and weight >= least) else 1].append(kind)
    return parts


def _judge(kind: Kind, thresholds: GateThresholds, compared_with: Side | None) -> _Judged:
    # What the new side cannot answer for comparison it could not answer for a caller either.
    skipped, times = kind.verdicts.get(Verdict.SKIPPED, 0), sum(kind.verdicts.values())
    refuses = compared_with is Side.SQLALCHEMY and skipped > thresholds.errors * times
    is_proven = kind.compared > 0 and passes(kind.compared, kind.mismatched, thresholds.comparisons)
    bound = upper_bound(kind.compared, kind.mismatched)
    return _Judged(
        kind,
        min(bound, thresholds.comparisons) if is_proven else bound,  # it has been rounded up
        is_proven,
        f"{kind.action} ({skipped:,} of {times:,})" if refuses else "",
    )


def _remedy(model: str, failing: Sequence[_Judged], refused: Sequence[_Judged], wanted: float) -> str:
    remedies = []
    if refused:
        remedies.append(f"write those calls of {listed([one.kind.action for one in refused])} in another way")
    if any(one.kind.mismatched for one in failing):
        remedies.append(
            f"see what was mismatched (the log names the fields, `crossfade verify {model}` the rows)"
        )
    lacking = [one.kind for one in failing if one not in refused]
    if lacking:
        most = max(lacking, key=lambda kind: still_needed(kind.compared, kind.mismatched, wanted))
        remedies.append(_more(most.compared, most.mismatched, wanted, f"of {most.action}"))
    return "; ".join(remedies)


def _more(compared: int, mismatched: int, wanted: float, what: str) -> str:
    keys = _keys_needed(compared, mismatched, wanted)
    if keys is None:
        return (
            f"that can never be proven, as no more than {EVIDENCE_BITS:,} keys are told apart:"
            f" raise `gates.comparisons` in the flag to {told_share(attainable(EVIDENCE_BITS // 2))} or more"
        )
    return f"needs about {keys:,} more distinct keys {what}, or a larger `gates.comparisons` in the flag"


def _keys_needed(compared: int, mismatched: int, wanted: float) -> int | None:
    """How many more keys it takes. As keys share bits, ever more of them look like known ones."""
    bits = max(1, still_needed(compared, mismatched, wanted))
    if compared + bits >= EVIDENCE_BITS:
        return None
    return rounded(-EVIDENCE_BITS * log(1 - bits / (EVIDENCE_BITS - compared)))


def _told(kind: Kind) -> str:
    """What there is of a kind; where there is no key at all, what its comparisons came to instead."""
    if kind.compared:
        bad = f", {kind.mismatched:,} mismatched" if kind.mismatched else ""
        return f"{kind.compared:,} key{'' if kind.compared == 1 else 's'}{bad}"
    came_to = [f"{times:,} {verdict}" for verdict, times in sorted(kind.verdicts.items()) if times]
    return ", ".join(["0 keys", *came_to])
