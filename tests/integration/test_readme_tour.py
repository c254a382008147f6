"""The README's tour, typed in by somebody new: from signing up to the first scanned card."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.integration.conftest import SeededSystem

README = Path(__file__).parents[2] / "README.md"


def test_from_signing_up_to_the_first_scanned_card(seeded_system: SeededSystem, tmp_path: Path) -> None:
    tour = README.read_text().partition("## A tour with curl")[2].partition("\n## ")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", tour, re.DOTALL))
    script = lines.replace("http://127.0.0.1:8080", seeded_system.base_url).replace(
        ".mastervip/outbox", f"{seeded_system.data}/outbox"
    )
    assert script.count(seeded_system.base_url) == 1
    done = subprocess.run(["bash", "-eu", "-c", "TOKEN=\n" + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout[done.stdout.rindex('{"scan_id"') :])
    assert (verdict["scan_id"], verdict["verdict"], verdict["member"]["name"]) == ("my-first-scan", "admitted", "John")
