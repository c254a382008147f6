"""The benchmark, once through on a small system: its document has everything, and its counts are those of Postgres."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import SeededSystem
from tests.support.running import COMMAND_TIMEOUT_S, ROOT

SECONDS = "1.5"


def bench(system: SeededSystem, tmp_path: Path, *arguments: str) -> Any:
    """The document of `mastervip bench` on the system, with a fixtures file that it makes itself."""
    more = ("--warmup", "0.3", "--members", "60", "--events", "2", "--fixtures", str(tmp_path / "fixtures.json"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "serve.cli",
            "bench",
            "--data",
            str(system.data),
            "--seconds",
            SECONDS,
            "--json",
            *arguments,
            *more,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(seeded_system: SeededSystem, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run with everything beside it; with it the report, and the directory of the fixtures file."""
    directory = tmp_path_factory.mktemp("bench")
    page = directory / "report" / "index.html"
    document = bench(
        seeded_system, directory, "--profile", "mixed", "--html", str(page), "--runs", "2", "--baseline-seconds", "1"
    )
    return document, page.read_text(encoding="utf-8"), directory


def test_the_document_has_everything(whole: Any) -> None:
    document, page, _ = whole
    own = document["mastervip"]
    assert own["scans"] > 0
    assert own["errors"] == 0, own["outcomes"]
    assert set(own["latency_ms"]) == {"p50", "p95", "p99", "p99.9"}
    assert 0 < own["latency_ms"]["p50"] <= own["latency_ms"]["p99.9"]
    assert {"client", "gateway", "host", "projector", "redis", "postgres", "all"} <= set(own["cpu_us_per_checkin"])
    assert own["drain_s"] is not None
    assert own["projector_lag_entries"] >= 0
    for figure in ("journal_bytes_per_checkin", "checkins_per_entry", "cores_used"):
        assert own[figure] > 0, figure
    assert len(own["runs"]) == 2
    assert sum(own["per_s_over_time"]) > 0
    assert set(document["baselines"]) == {"transaction", "statement", "redis"}
    for name, baseline in document["baselines"].items():
        assert baseline["scans"] > 0, name
        assert baseline["errors"] == 0, (name, baseline["outcomes"])
        assert baseline["outcomes"]["admitted"] > 0, name
        assert document["times_faster"][name] > 0
    for name in ("constant", "echo", "redis", "postgres"):
        assert document["limits"][name]["per_s"] > 0, name
    assert set(document["shares_of_limits"]) == {"listener", "redis", "postgres"}
    assert page.count("<svg") == 6


def test_every_check_in_that_was_answered_is_in_postgres(whole: Any) -> None:
    own = whole[0]["mastervip"]
    assert own["answers"] > own["scans"], "those of the warm-up, and those that came after the end"
    assert own["scans_in_postgres"] == own["answers"]
    assert own["rows_per_checkin"]["scans"] == own["rows_per_checkin"]["requests"] == 1.0


def test_three_rules_are_active_and_one_matches(whole: Any, seeded_system: SeededSystem) -> None:
    fixtures = json.loads((whole[2] / "fixtures.json").read_bytes())
    headers = {"X-API-Key": fixtures["api_key"]}
    rules = httpx.get(f"{seeded_system.base_url}/v1/rules", headers=headers).json()["items"]
    assert [rule["rule"]["state"] for rule in rules] == ["active"] * 3
    applied = set()
    for card in fixtures["cards"]:  # how many of them were scanned is the machine's to say
        entries = httpx.get(f"{seeded_system.base_url}/v1/cards/{card['id']}/ledger", headers=headers).json()["items"]
        applied |= {entry["rule"].partition(":")[0] for entry in entries if entry["rule"]}
    # The organisation's own award for a first entry is no rule of the three.
    assert len(applied - {"rule_checkin"}) == 1


def test_a_fixed_rate_is_not_exceeded(whole: Any, seeded_system: SeededSystem) -> None:
    document = bench(
        seeded_system, whole[2], "--profile", "doors", "--rate", "200", "--no-baselines", "--scans-per-frame", "1"
    )
    assert "baselines" not in document
    # A slow machine does less; what is due and when is the business of `tests/core/test_load_pacing.py`.
    assert 0 < document["mastervip"]["scans"] <= 1.1 * 200 * float(SECONDS)
