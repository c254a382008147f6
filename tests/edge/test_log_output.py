"""What our processes write into their logs."""

from __future__ import annotations

import pytest
import structlog

from serve import log_output


@pytest.mark.parametrize("to_stderr", [False, True])
def test_a_traceback_says_where_and_what_but_no_variables(capsys: pytest.CaptureFixture[str], to_stderr: bool) -> None:
    def failing() -> None:
        secret = "mvk_" + "of_somebody"
        raise ValueError(f"not {len(secret)}")

    log_output.configure(to_stderr=to_stderr)
    try:
        failing()
    except ValueError:
        structlog.get_logger("test").exception("it failed", request_id="req_1")
    finally:
        log_output.configure()
    out, err = capsys.readouterr()
    written, other = (err, out) if to_stderr else (out, err)
    assert other == ""
    assert "it failed" in written
    assert "req_1" in written
    assert "ValueError: not 15" in written
    assert "mvk_of_somebody" not in written
    assert "\x1b" not in written, "no colours in files"
