"""Capture, fence and record in the new store, version 1 of them.

Revision: crossfade_1
Follows:
"""

from __future__ import annotations

from collections.abc import Sequence

from crossfade.store import branch

revision: str = "crossfade_1"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = ("crossfade",)
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create what is missing, on every table of the migration; the tables must exist."""
    branch.upgrade()


def downgrade() -> None:
    """Remove everything; refused while a model is under way."""
    branch.downgrade()
