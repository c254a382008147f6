"""NTAG 424 DNA: what a hard card's tag says of itself at each tap, by Secure Dynamic Messaging (NXP, AN12196).

Rules:
1. A tag mirrors its UID and a counter of its taps into its URL, encrypted or plain, and a CMAC over them. Whoever knows
   the tag's keys can tell a tap from an invention; that a tap is not shown twice is the counter's matter, which must
   rise (the engine's, not decided here). It proves that the key was there, not that the tag still is.
2. Three layouts, told apart by their lengths: PICCData encrypted, the same with encrypted file data, and plain. What a
   tag writes is hexadecimal in capitals, of exact length; anything else is no tap. LRP (tags switched to leakage
   resilient cryptography; their PICCData has 24 bytes) is not supported.
3. A tap's one text is `MV1N:<tenant>:<picc>:<cmac>` or `MV1N:<tenant>:<picc>:<cmac>:<enc>`: that is what goes into the
   `credential` of a scan. The tag itself holds a URL, `https://HOST/t/<tenant>?e=<picc>&c=<cmac>` or
   `?e=<picc>&d=<enc>&c=<cmac>`; `text_of_url` makes the text of it, for readers that pass on what they read. (`d`
   stands before `c`: a tag can only sign what stands before its signature. For plain mirroring `e` is UID, counter.)
4. Keys are derived, not stored: HKDF-SHA256 of the master secret. K_SDMMetaRead is the tenant's, the same on all its
   tags, because it opens what tells the UID; K_SDMFileRead is the tag's own, by tenant and UID. So a key that is taken
   out of one tag makes no taps of another one.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.ids import is_id
from gateway.limits import CREDENTIAL_CHARS_MAX, TAG_FILE_BYTES_MAX, TAG_KEY_CACHE_ENTRIES_MAX

PREFIX = "MV1N:"
MAC_PARAMETER = "&c="
"""What stands between the encrypted file data and the CMAC in our URLs; the CMAC covers it with the data."""
UID_BYTES = 7
KEY_BYTES = 16
_COUNTER_BYTES = 3
_PICC_TAG = 0xC7  # UID and counter are mirrored, the UID has seven bytes
_PICC_CHARS, _PLAIN_CHARS, _MAC_CHARS = 32, 20, 16
_BLOCK_CHARS = 32
_ZERO_IV = bytes(16)
_SV1 = bytes.fromhex("C33C00010080")  # for the key that encrypts
_SV2 = bytes.fromhex("3CC300010080")  # for the key that signs
_is_hex = re.compile(r"[0-9A-F]*\Z").match
_URL = re.compile(r"https://[^/?#\s]+/t/([^/?#\s]+)\?e=([0-9A-F]+)(?:&d=([0-9A-F]+))?&c=([0-9A-F]+)\Z")


class TagMessage(msgspec.Struct, frozen=True):
    """A tap as its text has it. `enc` is "" without file data."""

    tenant_id: str
    picc: str
    mac: str
    enc: str = ""


class TagReading(msgspec.Struct, frozen=True):
    """A tap that one of our tags made: `uid` as 14 hexadecimal digits in capitals, `counter` up to 2**24 - 1, and what
    was in its file, None without."""

    uid: str
    counter: int
    file_data: bytes | None = None


class TagKeys(msgspec.Struct, frozen=True):
    """What is written into a tag when it becomes a card: K_SDMMetaRead and K_SDMFileRead, 16 bytes each."""

    meta_read: bytes
    file_read: bytes


def parse(text: str) -> TagMessage | None:
    """The tap that a text stands for (rules 2 and 3), None where it stands for none. Nothing is verified yet."""
    if len(text) > CREDENTIAL_CHARS_MAX or not text.startswith(PREFIX):
        return None
    parts = text[len(PREFIX) :].split(":")
    if len(parts) not in (3, 4) or not is_id(parts[0]) or "" in parts:
        return None
    message = TagMessage(*parts)
    return message if _has_a_layout(message) else None


def text_of_url(url: str) -> str | None:
    """The text of what a tag's URL says, None where it is none of ours."""
    found = _URL.match(url) if len(url) <= CREDENTIAL_CHARS_MAX else None
    if found is None:
        return None
    tenant_id, picc, enc, mac = found.groups()
    text = ":".join(filter(None, (PREFIX + tenant_id, picc, mac, enc)))
    return text if parse(text) is not None else None


class TagBook:
    """The tags of all tenants (rule 4)."""

    def __init__(self, master_secret: bytes) -> None:
        self._master_secret = master_secret
        self._meta_read: Callable[[str], bytes] = lru_cache(TAG_KEY_CACHE_ENTRIES_MAX)(self._derive)

    def keys(self, tenant_id: str, uid: bytes) -> TagKeys:
        """The keys of one tag, for whoever personalises it. Raises `ValueError` for a UID that has not seven bytes."""
        if len(uid) != UID_BYTES:
            raise ValueError(f"a tag's UID has {UID_BYTES} bytes")
        return TagKeys(self._meta_read(tenant_id), self._derive(tenant_id, uid))

    def read(self, message: TagMessage) -> TagReading | None:
        """The tap, None where the tenant's tags did not make it."""
        return read(
            message.picc,
            message.mac,
            message.enc,
            self._meta_read(message.tenant_id),
            lambda uid: self._derive(message.tenant_id, uid),
        )

    def _derive(self, tenant_id: str, uid: bytes = b"") -> bytes:
        info = b"mastervip tag key\0" + tenant_id.encode() + b"\0" + uid
        return HKDF(SHA256(), KEY_BYTES, None, info).derive(self._master_secret)


def read(
    picc: str,
    mac: str,
    enc: str,
    meta_read: bytes,
    file_read_of: Callable[[bytes], bytes],
    mac_parameter: str = MAC_PARAMETER,
) -> TagReading | None:
    """Verifies a tap in the layouts of rule 2: `picc` PICCData or UID and counter, `enc` file data or "".
    `mac_parameter` is what the URL has between `enc` and `mac`; it is signed with it."""
    uid_and_counter = bytes.fromhex(picc) if len(picc) == _PLAIN_CHARS else _decrypted(meta_read, picc)
    if uid_and_counter is None:
        return None
    uid, counter = uid_and_counter[:UID_BYTES], int.from_bytes(uid_and_counter[UID_BYTES:], "big")
    file_read = file_read_of(uid)
    mirrored = uid + counter.to_bytes(_COUNTER_BYTES, "little")
    signed = (enc + mac_parameter).encode() if enc else b""
    full = aes_cmac(aes_cmac(file_read, _SV2 + mirrored), signed)
    if not hmac.compare_digest(full[1::2], bytes.fromhex(mac)):
        return None
    return TagReading(uid.hex().upper(), counter, _file_data(file_read, mirrored, enc) if enc else None)


def aes_cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC, NIST SP 800-38B."""
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()


def _decrypted(meta_read: bytes, picc: str) -> bytes | None:
    """UID and counter (big-endian, as plain mirroring has it) of encrypted PICCData."""
    opened = _cbc_decrypt(meta_read, _ZERO_IV, bytes.fromhex(picc))
    if opened[0] != _PICC_TAG:
        return None
    counter = opened[1 + UID_BYTES : 1 + UID_BYTES + _COUNTER_BYTES]
    return opened[1 : 1 + UID_BYTES] + counter[::-1]


def _file_data(file_read: bytes, mirrored: bytes, enc: str) -> bytes:
    key = aes_cmac(file_read, _SV1 + mirrored)
    encryptor = Cipher(AES(key), ECB()).encryptor()  # one block, which is what the application note asks for
    iv = encryptor.update(mirrored[UID_BYTES:] + bytes(16 - _COUNTER_BYTES)) + encryptor.finalize()
    return _cbc_decrypt(key, iv, bytes.fromhex(enc))


def _cbc_decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _has_a_layout(message: TagMessage) -> bool:
    """Rule 2."""
    enc_chars = len(message.enc)
    return (
        _is_hex(message.picc + message.mac + message.enc) is not None
        and len(message.mac) == _MAC_CHARS
        and len(message.picc) in ((_PICC_CHARS,) if enc_chars else (_PICC_CHARS, _PLAIN_CHARS))
        and enc_chars % _BLOCK_CHARS == 0
        and enc_chars <= 2 * TAG_FILE_BYTES_MAX
    )
