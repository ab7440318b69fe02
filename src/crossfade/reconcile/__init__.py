"""Temporary: the package is about to take this name."""

from crossfade.reconciling import *  # noqa: F403
from crossfade.reconciling import Lag, Reconciler, ReconcileSettings

__all__ = ["Lag", "ReconcileSettings", "Reconciler"]
