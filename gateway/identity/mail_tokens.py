"""Tokens sent by mail: whoever has one reads the account's mail. Each is good once, for one purpose and for a while.

Rules:
1. `mvm_<account>_<secret>`; the secret has 256 random bits. At rest there is its SHA-256.
2. At most `MAILS_PER_ACCOUNT_MAX` of a purpose are made in `MAILS_PERIOD_MS`, so nobody can flood a mailbox through us.
3. One that is used takes all others of its account and purpose with it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.identity import limits
from gateway.identity.tokens import hash_secret
from gateway.ids import base32, is_id
from storage.postgres import Connection

PREFIX = "mvm"
Purpose = Literal["verify", "reset"]
SECRET_BYTES = 32
_SECRET_CHARS = 52  # 260 bits of base32
_LIFE_MS: dict[Purpose, int] = {"verify": limits.VERIFY_TOKEN_LIFE_MS, "reset": limits.RESET_TOKEN_LIFE_MS}


class MailToken(msgspec.Struct, frozen=True):
    """A token taken apart; nothing about it has been verified."""

    account_id: str
    secret_hash: bytes


def parse(text: str) -> MailToken | None:
    """The parts of a token; None when it cannot be one."""
    parts = text.split("_")
    if len(text) > limits.MAIL_TOKEN_CHARS_MAX or not text.isascii() or len(parts) != 3 or parts[0] != PREFIX:
        return None
    return MailToken(f"acc_{parts[1]}", hash_secret(parts[2])) if is_id(parts[1]) and parts[2] else None


async def make(connection: Connection, account_id: str, purpose: Purpose, random: bytes, now_ms: int) -> str | None:
    """A new token from `SECRET_BYTES` random bytes; None where enough were made lately (rule 2)."""
    secret = base32(int.from_bytes(random, "big"), _SECRET_CHARS)
    made = await connection.fetchval(
        "SELECT count(*) FROM mail_tokens WHERE account_id = $1 AND purpose = $2 AND created_at_ms > $3",
        account_id,
        purpose,
        now_ms - limits.MAILS_PERIOD_MS,
    )
    if made >= limits.MAILS_PER_ACCOUNT_MAX:
        return None
    # A used one says from where the owner has shown up (`attempts.is_known`); for that it is kept longer.
    await connection.execute(
        "DELETE FROM mail_tokens WHERE account_id = $1 AND created_at_ms <= $3 "
        "AND (created_at_ms <= $4 OR (used_from IS NULL AND (used_at_ms IS NOT NULL OR expires_at_ms <= $2)))",
        account_id,
        now_ms,
        now_ms - limits.MAILS_PERIOD_MS,
        now_ms - limits.KNOWN_ORIGIN_MS,
    )
    await connection.execute(
        "INSERT INTO mail_tokens (account_id, token_hash, purpose, created_at_ms, expires_at_ms) "
        "VALUES ($1, $2, $3, $4, $5)",
        account_id,
        hash_secret(secret),
        purpose,
        now_ms,
        now_ms + _LIFE_MS[purpose],
    )
    return f"{PREFIX}_{account_id.removeprefix('acc_')}_{secret}"


async def is_good(connection: Connection, token: MailToken, purpose: Purpose, now_ms: int) -> bool:
    """Whether the token could be used now."""
    return bool(
        await connection.fetchval(
            "SELECT true FROM mail_tokens WHERE account_id = $1 AND token_hash = $2 "
            "AND purpose = $3 AND used_at_ms IS NULL AND expires_at_ms > $4",
            token.account_id,
            token.secret_hash,
            purpose,
            now_ms,
        )
    )


async def use(connection: Connection, token: MailToken, purpose: Purpose, origin: str, now_ms: int) -> bool:
    """Uses a token up (rule 3); False when it is not good."""
    is_good = await connection.fetchval(
        "UPDATE mail_tokens SET used_at_ms = $4, used_from = $5 WHERE account_id = $1 AND token_hash = $2 "
        "AND purpose = $3 AND used_at_ms IS NULL AND expires_at_ms > $4 RETURNING true",
        token.account_id,
        token.secret_hash,
        purpose,
        now_ms,
        origin,
    )
    if is_good:
        await connection.execute(
            "UPDATE mail_tokens SET used_at_ms = $3 WHERE account_id = $1 AND purpose = $2 AND used_at_ms IS NULL",
            token.account_id,
            purpose,
            now_ms,
        )
    return bool(is_good)
