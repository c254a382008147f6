"""What the load scripts compute: users along the evening's curve, and the pure part of the k6 scripts under node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtest.client.arrivals import height
from loadtest.locusts.curve import PEAK_AT, users_at

LIBRARY = Path(__file__).parents[2] / "loadtest" / "k6" / "lib.mjs"
UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_users_rise_to_the_peak_and_fall() -> None:
    evening = [users_at("doors", 200, part / 100) for part in range(101)]
    assert max(evening) == evening[40] == 200
    assert evening[:36] == sorted(evening[:36])
    assert evening[50:] == sorted(evening[50:], reverse=True)
    assert evening[0] == evening[-1] == 21


def test_an_even_evening_is_at_its_peak_all_the_time() -> None:
    assert {users_at("even", 7, part / 10) for part in range(11)} == {7}


def test_there_is_always_a_user() -> None:
    assert users_at("doors", 1, 0.0) == 1


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("not run: no node on the PATH")
    return found


def computed(node: str, expression: str) -> Any:
    """What an expression gives that knows the library as `lib`."""
    program = f"const lib = await import({json.dumps(LIBRARY.as_uri())}); console.log(JSON.stringify({expression}));"
    command = [node, "--input-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_k6_has_the_same_curve(node: str) -> None:
    parts = [part / 20 for part in range(-2, 23)]
    found = computed(node, f"{parts}.map(lib.height)")
    assert found == pytest.approx([height("doors", part) / height("doors", PEAK_AT) for part in parts])


def test_k6_has_stages_of_whole_numbers(node: str) -> None:
    found = computed(node, "lib.stages(190, 60)")
    assert found["startRate"] == 20
    assert found["stages"] == [
        {"target": 190, "duration": "21000ms"},
        {"target": 190, "duration": "9000ms"},
        {"target": 20, "duration": "30000ms"},
    ]


def test_k6_makes_request_ids_of_version_7(node: str) -> None:
    low, high, *many = computed(
        node,
        "[lib.requestId(1, () => 0), lib.requestId(2 ** 48 - 1, () => 0.9999999999),"
        " ...Array.from({ length: 1000 }, () => lib.requestId(1795484000123, Math.random))]",
    )
    assert low == "00000000-0001-7000-8000-000000000000"
    assert high == "ffffffff-ffff-7fff-bfff-ffffffffffff"
    matches = [UUID7.fullmatch(one) for one in many]
    assert all(match and int(match[1] + match[2], 16) == 1795484000123 for match in matches)
    assert len(set(many)) == 1_000


def test_k6_lets_each_scanners_own_cards_in_and_then_out(node: str) -> None:
    take = "((next) => Array.from({ length: 6 }, next))"
    first, second = computed(node, f"[{take}(lib.guests(5, 0, 2)), {take}(lib.guests(5, 1, 2))]")
    assert [(guest["card"], guest["direction"]) for guest in first] == [
        *((card, "entry") for card in (0, 2, 4)),
        *((card, "exit") for card in (0, 2, 4)),
    ]
    assert [(guest["card"], guest["direction"]) for guest in second][:4] == [
        *((card, "entry") for card in (1, 3)),
        *((card, "exit") for card in (1, 3)),
    ]
    # More scanners than cards share some.
    assert computed(node, "lib.guests(2, 3, 10)()") == {"card": 1, "direction": "entry"}


def test_k6_spreads_scanners_over_events(node: str) -> None:
    events = [
        {"id": "one", "scanners": [{"token": "a"}, {"token": "b"}]},
        {"id": "two", "scanners": [{"token": "c"}]},
    ]
    found = computed(node, f"lib.scanners({json.dumps({'events': events})})")
    assert found == [
        {"event": "one", "token": "a"},
        {"event": "two", "token": "c"},
        {"event": "one", "token": "b"},
    ]
