"""The browser of these tests: the one on the PATH, else Debian's package where we may install it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.chromium import Page, open_page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_TIMEOUT_S = 400


def find_browser() -> str | None:
    """The first browser on the PATH."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def install_browser() -> str:
    """Tries Debian's package; says what came of it."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "none on the PATH, and none can be installed here"
    try:
        done = subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", "chromium"],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return "apt-get took too long"
    return (done.stderr.strip().splitlines() or ["no error"])[-1]


@pytest.fixture(scope="session")
def browser() -> str:
    """The browser program. Without one the tests are reported as skipped, with the reason, at the end of the run."""
    found = find_browser()
    outcome = "" if found else install_browser()
    found = found or find_browser()
    if found is None:
        pytest.skip(f"not run: no browser ({outcome})")
    return found


@pytest.fixture
async def page(browser: str, tmp_path: Path) -> AsyncIterator[Page]:
    """A tab of a browser of its own."""
    async with open_page(browser, tmp_path / "profile") as page:
        yield page
