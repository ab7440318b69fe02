"""Keep the follower level with the authority: verify every captured key, repair what differs."""

from crossfade.reconcile.reconciler import Reconciler
from crossfade.reconcile.settings import Lag, Problem, ReconcileSettings

__all__ = ["Lag", "Problem", "ReconcileSettings", "Reconciler"]
