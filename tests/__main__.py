"""All tests, as two lanes side by side: `python -m tests`. Status 0 only if both are green.

Rules:
1. One lane computes, in one process; the other one mostly waits for what it started (servers, browsers, whole
   systems). Together they take little more than the longer one.
2. What watches a system under load comes last: by then the other lane is done and the machine is its own.
3. The lane that runs systems shows its progress as it goes; what the other one said is shown when both are done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

COMPUTED = ("test_tidy.py", "core", "simulation", "edge")
RUN = ("conformance", "security", "browser", "integration", "chaos")
HERE = Path(__file__).parent


def forgotten() -> list[str]:
    """Folders and files with tests that are in no lane."""
    found = {path.name for path in HERE.iterdir() if path.name.startswith("test_") or any(path.glob("test_*.py"))}
    return sorted(found - {*COMPUTED, *RUN})


def lane(names: tuple[str, ...]) -> list[str]:
    """The command that runs these."""
    return [sys.executable, "-m", "pytest", *(str(HERE / name) for name in names)]


def main() -> int:
    """Both lanes."""
    if left_out := forgotten():
        sys.stderr.write(f"These tests are in no lane of {__file__}: {', '.join(left_out)}\n")
        return 2
    with tempfile.TemporaryFile() as told:
        computing = subprocess.Popen(lane(COMPUTED), stdout=told, stderr=subprocess.STDOUT)
        try:
            status = subprocess.run(lane(RUN), check=False).returncode
            status = computing.wait() or status
        finally:
            computing.kill()
        sys.stdout.flush()
        told.seek(0)
        sys.stdout.buffer.write(b"\n" + " ".join(COMPUTED).encode() + b":\n" + told.read())
    return status


if __name__ == "__main__":
    sys.exit(main())
