"""The built wheel, installed on its own, is the product: nothing of the checkout is needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = [
    "crossfade/py.typed",
    "crossfade/engine/server.mjs",
    "crossfade/engine/npm/package-lock.json",
    "marketplace/schema.prisma",
    "marketplace/migrations/env.py",
    "marketplace/flags/User.yaml",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies, and nothing else."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH")
    place = tmp_path_factory.mktemp("wheel")
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}

    def run(*command: str) -> None:
        done = subprocess.run(
            [uv, *command], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run("build", "--quiet", "--wheel", "--out-dir", str(place / "dist"), str(ROOT))
    wheel = next((place / "dist").glob("*.whl"))
    run("venv", "--quiet", "--python", sys.executable, str(place / "venv"))
    run("pip", "install", "--quiet", "--python", str(place / "venv/bin/python"), str(wheel))
    return place / "venv"


def test_the_command_runs_without_any_extra(installed: Path) -> None:
    """Prisma, Unleash and the embedded PostgreSQL are extras; the core starts without them."""
    done = subprocess.run(
        [installed / "bin/crossfade", "--help"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "flip" in done.stdout


def test_the_demo_says_which_extras_it_needs(installed: Path, tmp_path: Path) -> None:
    """One line, no traceback, and what to install."""
    command = [installed / "bin/crossfade", "demo", "--seconds", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "crossfade[" in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_that_runs_is_in_the_wheel(installed: Path) -> None:
    """Types, the engine server, its pinned packages, the reference application's data."""
    site = next((installed / "lib").glob("python3.*/site-packages"))

    assert [] == [name for name in SHIPPED if not (site / name).exists()]


def test_nothing_generated_or_private_is_in_the_wheel(installed: Path) -> None:
    """The Prisma client is generated at set-up, on the user's machine."""
    site = next((installed / "lib").glob("python3.*/site-packages"))

    assert not (site / "marketplace/prisma_client").exists()
    assert not (site / "tests").exists()
