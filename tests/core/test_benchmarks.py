"""The benchmarks of the core run, once and on little; how fast is for whoever measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.compare import best, table

ROOT = Path(__file__).parent.parent.parent


def test_each_benchmark_runs() -> None:
    command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-o", "python_files=bench_*.py"]
    told = subprocess.run(
        [*command, "--small", "--benchmark-disable"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout
    assert "13 passed" in told.stdout


def test_the_best_time_counts() -> None:
    assert best({}, {"a": 3.0}) == {"a": 3.0}
    assert best({"a": 2.0, "b": 1.0}, {"a": 3.0, "b": 0.5}) == {"a": 2.0, "b": 0.5}


def test_the_table_names_what_the_other_code_cannot_run() -> None:
    _, known, new = table({"known": 2.0}, {"known": 3.0, "new": 1.0})
    assert known.split() == ["known", "2.00", "3.00", "1.50"]
    assert "does not run" in new
