"""What a change does to the speed of the core: `python -m tests.benchmarks.compare [COMMIT] [--rounds N]`.

Runs the benchmarks of this tree on the code of COMMIT (the parent, unless said otherwise) and on this tree's, by turns,
and prints the ratio of the best times of each. It says nothing about good or bad and never fails for a figure: times on
shared machines differ by a tenth from one run to the next.

Rules:
1. The other code is a worktree of git's in a temporary directory, with this tree's benchmarks put into it: what is
   compared is the code, not the measuring.
2. By turns, so that whatever else the machine does meets both.
3. A benchmark that the other code cannot run is left out, and named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ROUNDS = 3

Times = dict[str, float]


def run(tree: Path, report: Path) -> Times:
    """The best time of each benchmark that runs, in microseconds."""
    command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-o", "python_files=bench_*.py", "-q"]
    command += ["-p", "no:cacheprovider", f"--benchmark-json={report}", "--benchmark-warmup=on"]
    paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True)
    if not report.exists() or not report.stat().st_size:
        return {}
    found = json.loads(report.read_bytes())["benchmarks"]
    return {one["name"]: one["stats"]["min"] * 1e6 for one in found}


def best(before: Times, now: Times) -> Times:
    """The better of both, of each."""
    return {name: min(before.get(name, now[name]), now[name]) for name in now}


def table(other: Times, ours: Times) -> list[str]:
    """A line for each benchmark: both times, and ours as a multiple of the other's."""
    width = max(map(len, ours), default=0)
    lines = [f"{'':{width}} {'before us':>12} {'now us':>12} {'ratio':>6}"]
    for name, microseconds in ours.items():
        if name in other:
            figures = f"{other[name]:12.2f} {microseconds:12.2f} {microseconds / other[name]:6.2f}"
        else:
            figures = f"{'does not run':>12} {microseconds:12.2f} {'':6}"
        lines.append(f"{name:{width}} {figures}")
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare")
    parser.add_argument("commit", nargs="?", default="HEAD^")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mv-compare-") as directory:
        tree = Path(directory) / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), options.commit], check=True)
        try:
            shutil.copytree(HERE, tree / "tests" / "benchmarks", dirs_exist_ok=True)
            other: Times = {}
            ours: Times = {}
            for number in range(options.rounds):
                sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
                other = best(other, run(tree, Path(directory) / f"other-{number}.json"))
                ours = best(ours, run(ROOT, Path(directory) / f"ours-{number}.json"))
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=False)
    sys.stdout.write("\n".join(table(other, ours)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
