"""A credential as something to print or to write on a tag: QR code (PNG, SVG) and NDEF message.

Versions of the QR code (17 + 4 × version modules a side) by error level, in alphanumeric mode and with ids of our own:

    text                                            characters   L    M    Q
    `MV1:`, no bounds                                      229   8    9   11
    `MV1:`, both bounds and a serial                       258   8    9   11
    `MV1R:`, no bounds                                     238   8    9   11
    `MV1R:`, both bounds, a serial, its code               267   8   10   12

So at L whatever we issue is version 8 (up to 279 characters), and no other level comes with it for free.
"""

from __future__ import annotations

from io import BytesIO

import segno

QR_ERROR_LEVEL = "L"  # screens and fresh prints; a smaller code scans quicker than a more redundant one
_PNG_SCALE = 8
_SVG_SCALE = 4
_NDEF_MB_ME = 0xC0  # the message's first and last record
_NDEF_SHORT = 0x10
_NDEF_WELL_KNOWN = 0x01
_URI_PREFIXES = ("https://www.", "http://www.", "https://", "http://")
_URI_PREFIX_CODES = {"": 0x00, "http://www.": 0x01, "https://www.": 0x02, "http://": 0x03, "https://": 0x04}


def qr_code(text: str) -> segno.QRCode:
    """The QR code, in alphanumeric mode because a credential has no lower-case letters."""
    return segno.make_qr(text, error=QR_ERROR_LEVEL, boost_error=False)


def qr_png(text: str) -> bytes:
    """The QR code as a PNG with its quiet zone."""
    out = BytesIO()
    qr_code(text).save(out, kind="png", scale=_PNG_SCALE)
    return out.getvalue()


def qr_svg(text: str) -> bytes:
    """The QR code as an SVG document."""
    out = BytesIO()
    qr_code(text).save(out, kind="svg", scale=_SVG_SCALE)
    return out.getvalue()


def ndef_text(text: str) -> bytes:
    """An NDEF message of one Text record: the very text of the QR code, so that a door treats both alike. (Not a URI
    record: base45 has characters that a URI would have to escape.)"""
    return _record(b"T", b"\x02en" + text.encode())


def ndef_uri(uri: str) -> bytes:
    """An NDEF message of one URI record, with the prefix abbreviated: for tags whose URL changes (`gateway.tags`)."""
    prefix = next((prefix for prefix in _URI_PREFIXES if uri.startswith(prefix)), "")
    return _record(b"U", bytes([_URI_PREFIX_CODES[prefix]]) + uri[len(prefix) :].encode())


def _record(record_type: bytes, payload: bytes) -> bytes:
    flags = _NDEF_MB_ME | _NDEF_WELL_KNOWN
    if len(payload) < 256:
        return bytes((flags | _NDEF_SHORT, len(record_type), len(payload))) + record_type + payload
    return bytes((flags, len(record_type))) + len(payload).to_bytes(4, "big") + record_type + payload
