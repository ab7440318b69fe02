"""What the README shows is true: its commands exist, its links lead somewhere, its code runs on real stores."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crossfade.stages import PLANS, FollowerPart, Stage, Topology
from crossfade.store import Store
from crossfade.store.install import install
from databases import FreshDatabase
from sides import Side, marketplace_schema, open_side

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a wide terminal."""
    return subprocess.run(
        [sys.executable, "-m", "crossfade", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
    )


def commands() -> list[tuple[str, ...]]:
    """Every `crossfade …` in a console block or a table of the pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    found = {tuple(m.group(1).split()) for line in lines if (m := re.search(r"crossfade (.+)", line))}
    return sorted(found)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_that_is_shown_exists_with_its_options(words: tuple[str, ...]) -> None:
    """Its help mentions each option that the page uses."""
    path = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    shown = run(*path[: 2 if path[0] == "engine" else 1], "--help")

    assert shown.returncode == 0, shown.stderr
    assert [] == [word for word in words if word.startswith("--") and word not in shown.stdout]


def test_the_commands_table_lists_every_command() -> None:
    """A command that nobody can read about does not exist."""
    listed = re.findall(r"^│ ([a-z-]+) ", run("--help").stdout.split("Commands")[1], re.MULTILINE)

    assert listed
    assert [] == [name for name in listed if f"`crossfade {name}" not in README]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Relative links name files that are there."""
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("stage", Stage)
def test_the_stage_table_is_the_tables(stage: Stage) -> None:
    """Row by row: what the page says is what the code does."""
    plan = PLANS[Topology.SEPARATE][stage]
    row = next(line for line in README.splitlines() if line.startswith(f"| `{stage}`"))
    _, _, reads, shadow, authority, follower, _ = (cell.strip() for cell in row.split("|"))

    assert (plan.reads, str(plan.shadow or "–"), plan.authority) == (reads, shadow, authority)
    assert (plan.follower_part is FollowerPart.APPLY) is (follower == "gets every write")


async def test_the_code_runs_on_real_stores(
    fresh_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example opens both sides and answers a call."""
    legacy, target = await fresh_database(), await fresh_database()
    async with open_side(Side.PRISMA, legacy), open_side(Side.SQLALCHEMY, target):
        for side, dsn in zip(Side, (legacy, target), strict=True):
            await install(Store(side, dsn, marketplace_schema()), by="test")
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(code.group(1), "README.md", "exec"), names)  # noqa: S102

    await names["serve"](legacy, target)
