"""Compare both stores in the databases, down to the rows and columns that differ."""

from crossfade.verify.images import RedactedImages
from crossfade.verify.report import Differing, Kind, TableReport, Verdict
from crossfade.verify.settings import Mode, VerifySettings
from crossfade.verify.verify import Verify

__all__ = [
    "Differing",
    "Kind",
    "Mode",
    "RedactedImages",
    "TableReport",
    "Verdict",
    "Verify",
    "VerifySettings",
]
