"""Locust, wrk and k6 with our scripts against a running system: they do what their pages say, and nothing fails."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.seed import write_fixtures
from serve.stores import quiet_port
from tests.integration.conftest import SeededSystem
from tests.support import load_tools
from tests.support.load_tools import NotThere, Tool

ROOT = Path(__file__).parents[2]
KINDS = {"member", "door/socket", "door/rest", "till", "organiser"}
REQUESTS_PER_KIND = 5
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Load:
    """An organisation of these tests' own, and its fixtures file."""

    base_url: str
    path: Path
    fixtures: dict[str, Any]

    def get(self, path: str, **params: Any) -> Any:
        """What the organisation's key reads."""
        headers = {"X-API-Key": self.fixtures["api_key"]}
        return httpx.get(self.base_url + path, params=params, headers=headers, timeout=20).raise_for_status().json()


@pytest.fixture(scope="module")
def load(seeded_system: SeededSystem, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """With two people who have an account."""
    path = tmp_path_factory.mktemp("load") / "fixtures.json"
    write_fixtures(path, seeded_system.running.seed(members=60, events=2))
    arguments = ["--fixtures", str(path), "--data", str(seeded_system.data), "--count", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.accounts", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Load(seeded_system.base_url, path, json.loads(path.read_bytes()))


def available(find: Callable[[], Tool]) -> Tool:
    """The tool. Without it the tests are reported as skipped, with the reason, at the end of the run."""
    try:
        return find()
    except NotThere as reason:
        pytest.skip(f"not run: {reason}")


@pytest.fixture(scope="module")
def wrk(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    folder = tmp_path_factory.mktemp("wrk")
    return available(lambda: load_tools.wrk(folder))


@pytest.fixture(scope="module")
def k6() -> Tool:
    return available(load_tools.k6)


def test_people_with_an_account_see_their_own_card(load: Load) -> None:
    people = load.fixtures["members"]
    assert [person["card_id"] for person in people] == [card["id"] for card in load.fixtures["cards"][:2]]
    for person in people:
        body = {"email": person["email"], "password": person["password"], "org_id": load.fixtures["org_id"]}
        token = httpx.post(f"{load.base_url}/v1/auth/login", json=body, timeout=20).json()["access_token"]
        me = httpx.get(f"{load.base_url}/v1/me", headers={"Authorization": f"Bearer {token}"}, timeout=20).json()
        assert me["role"] == "member"
        assert [(org["member_id"], org["card_ids"]) for org in me["orgs"]] == [
            (person["member_id"], [person["card_id"]])
        ]


# --- Locust -----------------------------------------------------------------------------------------------------------


@contextmanager
def locust(load: Load, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of it; what it prints goes to `log`.out, what it logs to `log`."""
    common = ["-f", "loadtest/locustfile.py", "--headless", "--fixtures", str(load.path), "--pace", "10"]
    command = [sys.executable, "-m", "locust", *common, *arguments]
    with log.open("wb") as errors, log.with_suffix(".out").open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=errors)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows(path: Path) -> Iterator[dict[str, str]]:
    """A CSV file of Locust's; none before there is one."""
    if path.exists():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def wait_for_all_kinds(stats: Path, master: subprocess.Popen[bytes]) -> None:
    """Until each kind of user has been answered a few times."""
    deadline_s = time.monotonic() + TIMEOUT_S
    asked: dict[str, int] = {}
    while time.monotonic() < deadline_s and master.poll() is None:
        asked = dict.fromkeys(KINDS, 0)
        for row in rows(stats):
            if row["Type"] in asked:
                asked[row["Type"]] += int(row["Request Count"])
        if min(asked.values()) >= REQUESTS_PER_KIND:
            return
        time.sleep(0.2)
    pytest.fail(f"not all kinds of user were answered: {asked}")


def test_two_workers_play_an_evening_and_nothing_fails(load: Load, tmp_path: Path) -> None:
    port = str(quiet_port())
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    with ExitStack() as stack:
        master_does = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--json"]
        sizes = ["--expect-workers", "2", "--host", load.base_url, "-u", "40", "-t", "10m", "--curve", "even"]
        ends = ["--stop-timeout", "20", "--csv", str(tmp_path / "load")]
        processes = [stack.enter_context(locust(load, logs[0], *master_does, *sizes, *ends))]
        for log in logs[1:]:
            processes.append(stack.enter_context(locust(load, log, "--worker", "--master-port", port)))
        wait_for_all_kinds(tmp_path / "load_stats.csv", processes[0])
        processes[0].terminate()
        statuses = [process.wait(60) for process in processes]
    told = "".join(log.read_text()[-3_000:] for log in logs)
    lines = json.loads(logs[0].with_suffix(".out").read_bytes())
    failures = list(rows(tmp_path / "load_failures.csv"))
    assert [line for line in lines if line["num_failures"]] == [], (failures, told)
    assert statuses == [0, 0, 0], told
    assert {line["method"] for line in lines} == KINDS
    assert "Traceback" not in told, told
    both_had_tills = [coupon for coupon in load.get("/v1/coupons")["items"] if coupon["name"] == "A coffee"]
    assert len(both_had_tills) == 2
    keys = load.get(f"/v1/orgs/{load.fixtures['org_id']}/api-keys")["items"]
    assert [key for key in keys if key["name"].startswith("Load: ") and key["revoked_at"] is None] == []


def test_locust_says_what_is_missing(load: Load, tmp_path: Path) -> None:
    without = tmp_path / "fixtures.json"
    write_fixtures(without, {**load.fixtures, "members": []})
    with locust(Load(load.base_url, without, load.fixtures), tmp_path / "log", "-t", "1s", "MemberApp") as process:
        assert process.wait(60) == 1
    assert "python -m loadtest.accounts" in (tmp_path / "log").read_text()


# --- wrk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "items"), [("checkins", 1), ("batches", 100)])
def test_wrk_gets_a_verdict_for_every_scan(load: Load, wrk: Tool, script: str, items: int) -> None:
    sizes = ["-t2", "-c4", "-d2s", "--timeout", "20s", "-s", f"loadtest/wrk/{script}.lua"]
    done = wrk.run(*sizes, load.base_url, "--", str(load.path), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    admitted, refused = map(int, re.findall(r"\((\d+) admitted, (\d+) refused\)", done.stdout)[0])
    assert admitted > 0
    assert admitted + refused == items * requests


def test_wrk_says_that_there_are_no_fixtures(load: Load, wrk: Tool, tmp_path: Path) -> None:
    sizes = ["-t1", "-c1", "-d1s", "-s", "loadtest/wrk/checkins.lua"]
    done = wrk.run(*sizes, load.base_url, "--", str(tmp_path / "none.json"), cwd=ROOT)
    assert done.returncode == 1
    assert "mastervip seed" in done.stderr


# --- k6 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["rest", "sockets"])
def test_k6_gets_a_verdict_for_every_scan(load: Load, k6: Tool, script: str, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    given = {"FIXTURES": str(load.path), "RATE": "60", "SECONDS": "3", "SOCKETS": "4"}
    settings = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    quiet = ["--no-usage-report", "--quiet", "--summary-export", str(summary)]
    done = k6.run("run", *quiet, *settings, f"loadtest/k6/{script}.js", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads(summary.read_bytes())["metrics"]
    assert metrics["checkins_admitted"]["count"] > 0, done.stdout
    if script == "rest":
        assert metrics["checks"]["fails"] == 0
        checks = json.loads(summary.read_bytes())["root_group"]["checks"]
        assert {"scan has its verdict", "member is answered"} <= set(checks)


@pytest.mark.parametrize("script", ["rest", "sockets"])
def test_k6_fails_where_nobody_answers(load: Load, k6: Tool, script: str) -> None:
    given = ["-e", f"FIXTURES={load.path}", "-e", "BASE_URL=http://127.0.0.1:9", "-e", "RATE=10", "-e", "SECONDS=1"]
    done = k6.run("run", "--no-usage-report", "--quiet", *given, f"loadtest/k6/{script}.js", cwd=ROOT)
    assert done.returncode == 99 if script == "sockets" else done.returncode != 0, done.stdout + done.stderr
