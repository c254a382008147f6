"""People with a member's app, for load tests: accounts that are linked to members of a fixtures file.

    python -m loadtest.accounts --fixtures fixtures.json [--count 10] [--data .mastervip]

Rules:
1. Through the public API: the SuperAdmin makes an account, the organisation invites it to be linked to a member, and
   the person accepts with the token of the mail.
2. The mail is read from the outbox folder of the data directory: this runs where the system does, which must not send
   its mail anywhere else. The fixtures file can then go to any machine.
3. What it makes is added to the file as `members`: `email`, `password`, `member_id`, `card_id`.
"""

from __future__ import annotations

import asyncio
import json
import re
from email import message_from_bytes, policy
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

import click

from gateway.client import AsyncClient, AsyncMasterVip, MasterVipError, RetryPolicy
from serve import connection
from serve.seed import RETRY, write_fixtures

COUNT_DEFAULT = 10
MAIL_TIMEOUT_S = 20.0
MAIL_POLL_S = 0.05
TOKEN = re.compile(r"\bmvi_\S+")

Json = dict[str, Any]


class Outbox:
    """The mails that a system without a mail server leaves in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[Path] = set(folder.glob("*.eml"))
        self._tokens: dict[str, str] = {}

    async def token(self, email: str) -> str:
        """The token of the invitation to this address, once it is there. Raises `TimeoutError`."""
        async with asyncio.timeout(MAIL_TIMEOUT_S):
            while email not in self._tokens:
                await asyncio.sleep(MAIL_POLL_S)  # a folder tells nobody
                self._take_in()
        return self._tokens.pop(email)

    def _take_in(self) -> None:
        for path in set(self._folder.glob("*.eml")) - self._read:
            self._read.add(path)
            mail = message_from_bytes(path.read_bytes(), policy=policy.default)
            found = TOKEN.search(str(mail.get_content()))
            if found:
                self._tokens[str(mail["To"])] = found.group()


async def _join(platform: AsyncClient, organisation: AsyncClient, outbox: Outbox, card: Json) -> Json:
    """One person for a card."""
    person = {"email": f"guest-{token_hex(6)}@localhost", "password": token_urlsafe(18)}
    await platform.request("POST", "/v1/accounts", json=person | {"name": "A guest", "verified": True})
    await organisation.request("POST", f"/v1/members/{card['member_id']}/link", json={"email": person["email"]})
    guest = platform.acting_as(None)
    await guest.login(person["email"], person["password"])
    await guest.people.accept_invitation(await outbox.token(person["email"]))
    await guest.logout()
    return person | {"member_id": card["member_id"], "card_id": card["id"]}


async def join(found: connection.Connection, data: Path, fixtures: Json, count: int, retry: RetryPolicy) -> list[Json]:
    """So many people more, for the cards after those that have one. Raises `MasterVipError`, `TimeoutError`."""
    superadmin = fixtures["superadmin"]
    first = len(fixtures.get("members", []))
    outbox = Outbox(data / "outbox")
    async with AsyncMasterVip(found.base_url, retry=retry, ssl_context=found.ssl_context()) as platform:
        await platform.login(superadmin["email"], superadmin["password"])
        organisation = platform.acting_as(fixtures["api_key"])
        cards = fixtures["cards"][first : first + count]
        people = [await _join(platform, organisation, outbox, card) for card in cards]
        await platform.logout()
    return people


@click.command()
@click.option("--fixtures", "path", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--count", type=click.IntRange(1), default=COUNT_DEFAULT, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path(".mastervip"), show_default=True)
def main(path: Path, count: int, data: Path) -> None:
    """Adds people with an account to a fixtures file."""
    fixtures: Json = json.loads(path.read_bytes())
    try:
        found = connection.read(data)
        people = asyncio.run(join(found, data, fixtures, count, RETRY))
    except TimeoutError:
        raise click.ClickException(f"no mail came to {data / 'outbox'}: is mail sent elsewhere?") from None
    except (connection.NotRunning, MasterVipError) as error:
        raise click.ClickException(str(error)) from error
    fixtures["members"] = fixtures.get("members", []) + people
    write_fixtures(path, fixtures)
    click.echo(f"{path}: {len(people)} people more with an account, {len(fixtures['members'])} in all")


if __name__ == "__main__":
    main()
