"""An NTAG 424 DNA as a reader sees it: at each tap its counter rises, and its URL has what AN12196 says it mirrors.

Written from the application note and not from `gateway.tags`, so that a slip in one is no slip in both.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC


class FakeTag:
    """`uid` has seven bytes, the keys 16. `random_bytes` gives the padding of PICCData; with `file_data` (a multiple of
    16 bytes) the tag mirrors it encrypted, with `is_plain` it encrypts nothing."""

    def __init__(
        self,
        uid: bytes,
        meta_read: bytes,
        file_read: bytes,
        *,
        counter: int = 0,
        random_bytes: Callable[[int], bytes] = bytes,
        file_data: bytes = b"",
        is_plain: bool = False,
    ) -> None:
        self.uid = uid
        self.counter = counter
        self._meta_read = meta_read
        self._file_read = file_read
        self._random_bytes = random_bytes
        self._file_data = file_data
        self._is_plain = is_plain

    def tap(self, address: str) -> str:
        """The URL that a reader gets at the next tap; `address` is what was written onto the tag, up to the `?`."""
        self.counter += 1
        counter = self.counter.to_bytes(3, "little")
        if self._is_plain:
            mirrored = self.uid.hex() + f"{self.counter:06x}"
        else:
            picc = b"\xc7" + self.uid + counter + self._random_bytes(5)
            mirrored = _encrypt(CBC(bytes(16)), self._meta_read, picc).hex()
        enc = ""
        if self._file_data:
            key = _mac(self._file_read, b"\xc3\x3c\x00\x01\x00\x80" + self.uid + counter)
            iv = _encrypt(ECB(), key, counter + bytes(13))
            enc = _encrypt(CBC(iv), key, self._file_data).hex().upper()
        session = _mac(self._file_read, b"\x3c\xc3\x00\x01\x00\x80" + self.uid + counter)
        full = _mac(session, f"{enc}&c=".encode() if enc else b"")
        mac = bytes(full[at] for at in range(1, 16, 2)).hex().upper()
        data = f"&d={enc}" if enc else ""
        return f"{address}?e={mirrored.upper()}{data}&c={mac}"


def _mac(key: bytes, data: bytes) -> bytes:
    cmac = CMAC(AES(key))
    cmac.update(data)
    return cmac.finalize()


def _encrypt(mode: CBC | ECB, key: bytes, data: bytes) -> bytes:
    encryptor = Cipher(AES(key), mode).encryptor()
    return encryptor.update(data) + encryptor.finalize()
