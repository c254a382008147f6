"""`mastervip up --tls`: the whole system behind TLS, and our own commands that talk to it."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx

from tests.support.running import Running


def test_a_system_behind_tls_is_found_trusted_and_used(tmp_path: Path) -> None:
    with Running(tmp_path / "data", arguments=["--tls", "--trusted-proxies", "192.0.2.0/24"]) as running:
        found = running.connection()
        assert found.base_url == f"https://127.0.0.1:{running.port}"
        assert found.ca_file is not None
        # As the README says: any client, with the file that connection.json names.
        with httpx.Client(base_url=found.base_url, verify=ssl.create_default_context(cafile=found.ca_file)) as client:
            assert client.get("/readyz").status_code == 200
        fixtures = running.seed(members=3, events=1)
        assert fixtures["base_url"] == found.base_url
        assert running.status()["ok"]
        measured = running.command("bench", "--seconds", "1", "--connections", "3", "--no-baselines", "--json")
        assert measured.returncode == 0, measured.stderr
        document = json.loads(measured.stdout)
        assert document["mastervip"]["outcomes"].keys() == {"admitted"}, document
