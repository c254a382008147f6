"""One running system for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.run import HOSTS, MEMBERS
from tests.support.running import Running


@dataclass
class Site:
    """A running system with two organisations in partitions of their own."""

    running: Running
    organisations: list[dict[str, Any]]


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two hosts and the standby, one gateway. For this folder: while it stands by, it takes a third of a core."""
    with Running(tmp_path_factory.mktemp("site") / "data", hosts=HOSTS) as running:
        yield Site(running, running.organisations(2, MEMBERS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with what the system logged: who was taken for dead, which partition moved, and when."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site is not None:
        report.sections.append(("end of the system's log", site.running.log_end()))
    return report
