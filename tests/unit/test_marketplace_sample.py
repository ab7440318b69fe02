"""Made-up rows: repeatable, complete and untidy."""

from __future__ import annotations

import pytest

from marketplace.sample import PARTICIPANTS, SHARES, generate_rows, row_counts


def test_the_same_seed_gives_the_same_rows() -> None:
    """Two runs can be compared because they start alike; another seed starts otherwise."""
    assert generate_rows(200, seed=1) == generate_rows(200, seed=1)
    assert generate_rows(200, seed=1) != generate_rows(200, seed=2)


@pytest.mark.parametrize("total", [10, 11, 57, 1000, 20_000])
def test_rows_add_up(total: int) -> None:
    """Every model has rows, no order has two shipments, and nothing is lost to rounding."""
    counts = row_counts(total)

    assert set(SHARES) == set(counts)
    assert total == sum(counts.values())
    assert min(counts.values()) >= 1
    assert counts["Shipment"] <= counts["Order"]


def test_too_few_rows_are_refused() -> None:
    """Fewer rows than models cannot cover the schema."""
    with pytest.raises(ValueError, match="at least 10 rows"):
        row_counts(9)


def test_smallest_sample_is_whole() -> None:
    """One row of each model is enough for every reference."""
    rows = generate_rows(10)

    assert dict.fromkeys(SHARES, 1) == {model: len(rows[model]) for model in SHARES}
    assert rows["User"][0]["id"] == rows["Item"][0]["owner_id"] == rows[PARTICIPANTS][0]["B"]


def test_values_are_as_untidy_as_real_ones() -> None:
    """Wildcards, quotes, other scripts, empty and missing lists, big integers and long decimals all occur."""
    rows = generate_rows(5000)
    text = " ".join(str(row) for model in rows.values() for row in model)

    for sign in ("%", "_", '"', "'", "\\\\", "\\n", "日本", "☕"):
        assert sign in text
    assert {None, 0} <= {None if row["tags"] is None else len(row["tags"]) for row in rows["User"]}
    assert max(row["storage_bytes"] for row in rows["User"]) > 2**53
    assert any(row["amount"].as_tuple().exponent == -30 for row in rows["AnalyticsData"])
    assert any(row["reply_to_id"] for row in rows["Message"])
    assert all(row["created_at"].microsecond % 1000 == 0 for row in rows["User"])
