"""Verifying the marketplace's models."""

from __future__ import annotations

from twins import Twins

from crossfade.verify import Verdict, Verify


async def test_level_stores_are_clean(shop: Twins) -> None:
    """Every table is compared, the many-to-many table included, and none differs."""
    reports = await Verify(shop.stores, shop.reconciler()).run()
    assert {Verdict.CLEAN} == {report.state for report in reports}
    assert "_ConversationParticipants" in {report.model for report in reports}
    assert 400 <= sum(report.rows for report in reports)
