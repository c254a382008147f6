"""The load generators that are no Python packages: on the PATH, or made to be where that is quick.

wrk is a package of Debian and Ubuntu; it is fetched into a folder of its own, without root and without installing
anything. k6 is in no distribution: who has it is tested with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

WRK_PACKAGES = ("wrk", "libluajit-5.1-2")
FETCH_TIMEOUT_S = 120
LUA_LIBRARY = "libluajit-5.1.so.2"


@dataclass(frozen=True)
class Tool:
    """A program, and what it needs in its environment."""

    program: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, cwd: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Its output; the status is the caller's to judge."""
        return subprocess.run(
            [self.program, *arguments],
            cwd=cwd,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


class NotThere(Exception):
    """A tool that cannot be had here; the message says why."""


def wrk(folder: Path) -> Tool:
    """The one on the PATH, else Debian's package unpacked into `folder`. Raises `NotThere`."""
    found = shutil.which("wrk")
    if found is not None:
        return Tool(found)
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise NotThere("none on the PATH, and no packages here")
    _done(folder, "apt-get", "download", *WRK_PACKAGES)
    for package in folder.glob("*.deb"):
        _done(folder, "dpkg", "-x", str(package), "unpacked")
    program = folder / "unpacked" / "usr" / "bin" / "wrk"
    libraries = {str(path.parent) for path in (folder / "unpacked").rglob(LUA_LIBRARY)}
    if not program.exists():
        raise NotThere("the package has no wrk")
    tool = Tool(str(program), {"LD_LIBRARY_PATH": ":".join(sorted(libraries))})
    said = tool.run("--version", cwd=folder)
    if "wrk" not in said.stdout:
        raise NotThere(f"the package's wrk does not run: {said.stderr.strip()}")
    return tool


def _done(folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NotThere(f"{command[0]} took too long") from None
    if done.returncode:
        raise NotThere((done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1])


def k6() -> Tool:
    """The one on the PATH, else where `go install` puts it. Raises `NotThere`."""
    found = shutil.which("k6") or shutil.which("k6", path=str(Path.home() / "go" / "bin"))
    if found is None:
        raise NotThere("none on the PATH (`go install go.k6.io/k6@latest` makes one)")
    return Tool(found)
