"""Reading credentials with nothing but an organisation's public keys, as a door without a network does.

Rules:
1. What has a good signature is read, of this organisation and no other. That it is good now (its times, its serial,
   whether the card was revoked) is for whoever reads to judge.
2. Of a rotating credential all is checked but the eight digits of its code: the secret behind them never leaves the
   edge. An NFC tag's tap cannot be read here: its keys are secret, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.credentials import PREFIX, ROTATING_PREFIX, CredentialClaims, Forged, opened
from gateway.rotating import DIGITS


class PublishedKeys:
    """The keys of `GET /v1/orgs/{id}/credential-keys`: 32 bytes each, by key id."""

    def __init__(self, tenant_id: str, keys: Mapping[int, bytes]) -> None:
        self._tenant_id = tenant_id
        self._keys = {key_id: Ed25519PublicKey.from_public_bytes(raw) for key_id, raw in keys.items()}

    def read(self, text: str) -> CredentialClaims | None:
        """What a credential says; None where it is none of this organisation's, or has no good signature."""
        if text.startswith(ROTATING_PREFIX):
            text = text[:-DIGITS]
        elif not text.startswith(PREFIX):
            return None
        try:
            return opened(text, self._keys, self._is_signed)
        except Forged:
            return None

    def _is_signed(self, tenant_id: str, key_id: int, signature: bytes, signed: bytes) -> bool:
        if tenant_id != self._tenant_id:
            return False
        try:
            self._keys[key_id].verify(signature, signed)
        except InvalidSignature:
            return False
        return True
