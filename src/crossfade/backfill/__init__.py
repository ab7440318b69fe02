"""Copy a model's rows from the legacy store to the target while the application writes."""

from crossfade.backfill.backfill import Backfill
from crossfade.backfill.job import CopyPoint
from crossfade.backfill.pace import Pace
from crossfade.backfill.plan import PlannedTable
from crossfade.backfill.progress import TableProgress
from crossfade.backfill.settings import BackfillSettings

__all__ = ["Backfill", "BackfillSettings", "CopyPoint", "Pace", "PlannedTable", "TableProgress"]
