"""Find what in the legacy store's data will not fit into the target, before anything is copied."""

from crossfade.preflight.findings import Finding, Kind, Severity
from crossfade.preflight.preflight import Preflight, PreflightReport, PreflightSettings, Scanned

__all__ = ["Finding", "Kind", "Preflight", "PreflightReport", "PreflightSettings", "Scanned", "Severity"]
