"""Models that are related, moved one by one: in any order, under load, nobody notices and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from bench.moves import Load, run_orders
from databases import FreshDatabase


async def test_ten_models_move_in_three_orders(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    """Every combination of neighbours is visited, no request fails, and both stores hold what was acknowledged."""
    legacy, target = await fresh_database(), await fresh_database()

    outcomes = await run_orders(legacy, target, tmp_path, Load(rows=600, rate=30.0, rest=0.2))

    assert 3 == len(outcomes)
    for outcome in outcomes:
        assert {} == outcome.failures, outcome.line()
        assert (0, 0, 0) == (outcome.lost, outcome.different, outcome.mismatched), outcome.line()
        assert set() == outcome.unvisited
        assert 20 == len(outcome.pauses)
        assert outcome.acknowledged > 0
