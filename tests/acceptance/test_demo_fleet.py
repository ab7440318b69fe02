"""`crossfade demo --fleet` and `--unleash`: all models there and back, whatever happens to the processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
from test_demo import demo, descendants, run, wait_for

from crossfade.embedded.unleash import EmbeddedUnleash
from crossfade.engine.packages import PackageSet, install
from marketplace.subjects import SUBJECTS

STAGES = ["off", "dualwrite", "shadow", "live", "rampdown", "complete"]
THERE_AND_BACK = [*STAGES[1:], *reversed(STAGES[:-1])]
SHORT = ("--seconds", "15", "--rows", "1000", "--rate", "40")


def test_a_fleet_there_and_back(tmp_path: Path) -> None:
    """One process is killed twice, one frozen, one started cold, and a process of its own conducts: nothing is lost."""
    report = tmp_path / "out.json"
    code, out, _ = run(tmp_path, *SHORT, "--fleet", "4", "--json", str(report))
    document = json.loads(report.read_text())
    processes = {process["name"]: process for process in document["processes"]}

    assert 0 == code, document["problems"]
    assert "✓ All 10 models moved from Prisma to SQLAlchemy and back, in 4 processes" in out
    assert (0, 0, 0) == (document["lost"], document["different"], document["mismatched"])
    assert [] == document["failed"]
    assert [] == [figure for figure in document["figures"] if not figure["ok"]]
    for model in document["models"].values():
        assert "off" == model["stage"]
        assert THERE_AND_BACK == [move["to"] for move in model["moves"]][: len(THERE_AND_BACK)]
    assert {"main", "worker-1", "worker-2", "worker-3"} == set(processes)
    assert all(process["reads"] > 0 and process["writes"] > 0 for process in processes.values())
    assert (2, 3) == (processes["worker-1"]["killed"], len(processes["worker-1"]["pids"]))
    assert 2.9 < processes["worker-2"]["frozen"] < 4.0
    assert processes["worker-3"]["cold_at"] > 0


def test_flags_in_unleash(tmp_path: Path, ended: Callable[..., bool]) -> None:
    """The features are those of a real server, where a person can click; it ends with the demo."""
    install(PackageSet.UNLEASH, print)
    report = tmp_path / "out.json"
    arguments = (*SHORT, "--fleet", "2", "--unleash", "--keep", "--json", str(report))
    with demo(tmp_path, *arguments) as process:
        page = wait_for(process.stderr, r"Everything goes on running.*flags: (http\S+)/projects/default")[1]
        answer = httpx.get(
            f"{page}/api/admin/projects/default/features",
            headers={"Authorization": EmbeddedUnleash("postgresql://").admin_token},
            trust_env=False,
        )
        servers = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)

    document = json.loads(report.read_text())
    assert 0 == process.returncode, document["problems"]
    assert {f"crossfade.{model}" for model in SUBJECTS} == {
        feature["name"] for feature in answer.json()["features"]
    }
    assert {"off"} == {model["stage"] for model in document["models"].values()}
    assert (0, 0, []) == (document["lost"], document["different"], document["failed"])
    assert servers
    assert all(ended(pid) for pid in servers)
    assert ["out.json"] == [entry.name for entry in tmp_path.iterdir()]
