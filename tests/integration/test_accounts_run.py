"""Accounts on a running system: who is there at the first start, mail in the outbox, two gateways that agree, and keys
replaced by the command line."""

from __future__ import annotations

import json
import stat
import time
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.settings import SUPERADMIN_EMAIL
from tests.integration.conftest import SeededSystem
from tests.support.running import Running

GATEWAYS_REACHED_BY_REQUESTS = 24  # each on a connection of its own: the kernel picks a gateway
PASSWORD = "a-lamp-and-8842-doors"


def post(system: SeededSystem, path: str, body: Any, token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{system.base_url}{path}", json=body, headers=headers, timeout=20)


def me(system: SeededSystem, token: str) -> httpx.Response:
    return httpx.get(f"{system.base_url}/v1/me", headers={"Authorization": f"Bearer {token}"}, timeout=20)


def test_the_superadmin_and_the_admin_sign_in(seeded_system: SeededSystem) -> None:
    superadmin = seeded_system.fixtures["superadmin"]
    found = json.loads((seeded_system.data / "connection.json").read_bytes())["superadmin"]
    assert found == superadmin
    assert found["email"] == SUPERADMIN_EMAIL
    signed_in = post(seeded_system, "/v1/auth/login", superadmin).json()
    assert me(seeded_system, signed_in["access_token"]).json()["role"] == "superadmin"
    admin = dict(seeded_system.fixtures["admin"])
    profile = me(seeded_system, admin.pop("access_token")).json()
    assert (profile["org_id"], profile["role"]) == (seeded_system.fixtures["org_id"], "org_admin")
    assert profile["account"]["verified"]
    again = post(seeded_system, "/v1/auth/login", admin).json()
    assert me(seeded_system, again["access_token"]).json()["org_id"] == seeded_system.fixtures["org_id"]


def test_mail_is_in_the_outbox_and_signing_out_reaches_both_gateways(seeded_system: SeededSystem) -> None:
    email = f"ann-{time.time_ns()}@example.com"
    post(seeded_system, "/v1/auth/register", {"email": email, "password": PASSWORD, "name": "Ann"})
    mail = _mail_to(seeded_system.data / "outbox", email)
    token = next(word for word in mail.split() if word.startswith("mvm_"))
    assert post(seeded_system, "/v1/auth/verify", {"token": token}).status_code == 200
    signed_in = post(seeded_system, "/v1/auth/login", {"email": email, "password": PASSWORD}).json()
    for _ in range(GATEWAYS_REACHED_BY_REQUESTS):
        assert me(seeded_system, signed_in["access_token"]).status_code == 200
    assert post(seeded_system, "/v1/auth/logout", None, signed_in["access_token"]).status_code == 204
    deadline_s = time.monotonic() + 2
    while time.monotonic() < deadline_s and me(seeded_system, signed_in["access_token"]).status_code == 200:
        pass  # the news is on its way to the other gateway
    for _ in range(GATEWAYS_REACHED_BY_REQUESTS):
        assert me(seeded_system, signed_in["access_token"]).status_code == 401
    logs = b"".join(path.read_bytes() for path in (seeded_system.data / "logs").rglob("*") if path.is_file())
    assert token.encode() not in logs
    assert PASSWORD.encode() not in logs


def _mail_to(outbox: Path, email: str) -> str:
    """Waits for the mail: it goes out after the answer."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        for path in outbox.glob("*.eml"):
            message = message_from_bytes(path.read_bytes())
            if message["To"] == email:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                return str(message.get_payload())
        time.sleep(0.05)
    pytest.fail(f"no mail to {email}")


def test_keys_are_replaced_while_tokens_stay_good(seeded_system: SeededSystem) -> None:
    body = seeded_system.fixtures["superadmin"]
    before = post(seeded_system, "/v1/auth/login", body).json()["access_token"]
    command = seeded_system.running.command("rotate-keys", "--json")
    made = json.loads(command.stdout)
    assert made["key_id"] in made["published"]
    assert len(made["published"]) == 2
    after = post(seeded_system, "/v1/auth/login", body).json()["access_token"]
    for token in (before, after):
        for _ in range(GATEWAYS_REACHED_BY_REQUESTS):
            assert me(seeded_system, token).status_code == 200


def test_a_password_that_was_changed_stays_changed_and_is_told_nowhere(tmp_path: Path) -> None:
    with Running(tmp_path / "data", hosts=1, gateways=1) as running:
        first = running.connection().superadmin
        signed_in = httpx.post(
            f"{running.base_url}/v1/auth/login", json={"email": first.email, "password": first.password}, timeout=20
        ).json()
        changed = httpx.post(
            f"{running.base_url}/v1/auth/change-password",
            json={"current_password": first.password, "new_password": PASSWORD},
            headers={"Authorization": f"Bearer {signed_in['access_token']}"},
            timeout=20,
        )
        assert changed.status_code == 204
        assert running.stop() == 0
        running.start()
        assert running.connection().superadmin.password is None
        again = httpx.post(
            f"{running.base_url}/v1/auth/login", json={"email": first.email, "password": PASSWORD}, timeout=20
        )
        assert again.status_code == 200
        refused = running.command("seed", "--members", "1", "--events", "1", "--out", str(tmp_path / "fixtures.json"))
        assert refused.returncode != 0
        assert "was changed" in refused.stderr
