"""All tests, as lanes side by side: `python -m tests`. Status 0 only if all are green.

Rules:
1. One lane computes; the second asks single servers and stores and mostly waits for them; the third mostly waits for
   what it started (browsers, whole systems). Together they take little more than the longest.
2. What watches a system under load comes last: by then the other lanes are done and the machine is its own.
3. The lane that runs systems shows its progress as it goes; what the others said is shown when all are done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

COMPUTED = ("test_tidy.py", "core", "simulation")
ASKED = ("edge", "conformance", "security")
RUN = ("browser", "integration", "chaos")
LANES = (COMPUTED, ASKED, RUN)
HERE = Path(__file__).parent


def forgotten() -> list[str]:
    """Folders and files with tests that are in no lane."""
    found = {path.name for path in HERE.iterdir() if path.name.startswith("test_") or any(path.glob("test_*.py"))}
    return sorted(found - {name for lane in LANES for name in lane})


def lane(names: tuple[str, ...]) -> list[str]:
    """The command that runs these."""
    return [sys.executable, "-m", "pytest", *(str(HERE / name) for name in names)]


class Beside:
    """A lane that runs beside the one that shows its progress; what it says goes to `told`."""

    def __init__(self, names: tuple[str, ...], told: IO[bytes]) -> None:
        self.names = names
        self.told = told
        self.process = subprocess.Popen(lane(names), stdout=told, stderr=subprocess.STDOUT)


def main() -> int:
    """All lanes."""
    if left_out := forgotten():
        sys.stderr.write(f"These tests are in no lane of {__file__}: {', '.join(left_out)}\n")
        return 2
    with ExitStack() as stack:
        beside = [Beside(names, stack.enter_context(tempfile.TemporaryFile())) for names in (COMPUTED, ASKED)]
        for one in beside:
            stack.callback(one.process.kill)
        status = subprocess.run(lane(RUN), check=False).returncode
        for one in beside:
            status = one.process.wait() or status
        sys.stdout.flush()
        for one in beside:
            one.told.seek(0)
            sys.stdout.buffer.write(b"\n" + " ".join(one.names).encode() + b":\n" + one.told.read())
    return status


if __name__ == "__main__":
    sys.exit(main())
