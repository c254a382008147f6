"""E-mail addresses: the one form in which they are kept and compared.

Rules:
1. Trimmed, NFKC (Unicode Standard Annex #15), lower case, both parts. RFC 5321 lets the local part differ by case; no
   provider of any size does, and people do not know how they once wrote it.
2. Only what every mail system reads as one plain address passes: no quoted local parts, no comments, no lists.
"""

from __future__ import annotations

import re
from unicodedata import normalize

CHARS_MAX = 254  # RFC 5321, 4.5.3.1.3, without the brackets
_LOCAL_CHARS_MAX = 64
_PLAIN = re.compile(r"""[^\s@,;:<>()\[\]\\"\x00-\x1f\x7f]+@[^\W_](?:[\w.-]*[^\W_])?\Z""")


def normal_email(text: str) -> str:
    """The address in its normal form. Raises `ValueError`, saying why, for what is none."""
    email = normalize("NFKC", normalize("NFKC", text.strip()).lower())
    local, _, domain = email.partition("@")
    if _PLAIN.match(email) is None or not email.isprintable():
        raise ValueError("not an e-mail address such as ann@example.com")
    if len(email) > CHARS_MAX or len(local) > _LOCAL_CHARS_MAX:
        raise ValueError(
            f"an e-mail address has at most {CHARS_MAX} characters, {_LOCAL_CHARS_MAX} of them before the @"
        )
    if ".." in email or local[0] == "." or local[-1] == "." or "_" in domain or ".-" in domain or "-." in domain:
        raise ValueError("not an e-mail address such as ann@example.com: a dot or hyphen is in the wrong place")
    return email
