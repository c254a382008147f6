"""The table of what more hosts and gateways bring."""

from __future__ import annotations

import pytest

from loadtest.scale import GRID, HEAD, parse, row


def test_other_options_are_the_benchs() -> None:
    assert parse([]) == (list(GRID), [])
    assert parse(["--grid", "1×2", "4x8", "--profile", "ws", "--seconds", "8"]) == (
        [(1, 2), (4, 8)],
        ["--profile", "ws", "--seconds", "8"],
    )


@pytest.mark.parametrize("pair", ["2", "0×1", "1×", "a×1", "-1×2"])
def test_what_is_no_pair_is_said(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([f"--grid={pair}"])
    assert "is not hosts×gateways" in capsys.readouterr().err


def test_a_row_is_as_wide_as_the_head() -> None:
    own = {
        "per_s": 19836.4,
        "latency_ms": {"p50": 38.1, "p95": 68.2, "p99": 93.3, "p99.9": 120.0},
        "cpu_us_per_checkin": {"all": 90.1, "host": 27.7},
        "errors": 0,
    }
    line = row(2, 4, {"mastervip": own})
    assert line.split() == ["2", "4", "19836", "38.10", "68.20", "93.30", "90.1", "0"]
    assert len(line) == len(HEAD)
