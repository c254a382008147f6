"""Being connected to Ray for a command's time."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from click import echo

from serve.connection import RayAddress
from serve.ray_cluster import attached


def test_what_ray_prints_does_not_mix_with_what_a_command_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[str] = []

    def connect(**_: Any) -> None:
        echo("connected")

    monkeypatch.setattr(ray, "init", connect)
    monkeypatch.setattr(ray, "shutdown", lambda: left.append("left"))
    with attached(RayAddress("127.0.0.1:1", None)):
        echo("a node has died")
    echo("{}")
    assert capsys.readouterr() == ("{}\n", "connected\na node has died\n")
    assert left == ["left"]
