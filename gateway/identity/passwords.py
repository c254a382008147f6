"""Passwords: which ones are good enough, and how they are hashed.

Rules:
1. Argon2id with the second recommended parameters of RFC 9106 (section 4). A hash says by which parameters it was made;
   whoever signs in with one of older parameters gets a new hash.
2. Hashing takes 64 MiB and a core for a while. It runs in threads, `HASHES_AT_ONCE` at a time; so many may wait, and
   whoever comes then is told to try again. The event loop never waits, and check-ins go first (`HASHING_NICENESS`).
3. Where there is no hash to compare with, a made-up one is compared all the same, at the same cost.
4. A password is weak by its length, by what it repeats, or by being what guessers try first. Which characters it is
   made of does not matter (NIST SP 800-63B, 5.1.1.2).
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar
from unicodedata import normalize

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from actors import refusals
from gateway.identity import limits
from gateway.problems import Problem

ARGON2: Final = argon2.profiles.RFC_9106_LOW_MEMORY  # 3 passes over 64 MiB, 4 lanes
_COMMON_FILE: Final = Path(__file__).with_name("common_passwords.txt")
_DIFFERENT_CHARS_MIN: Final = 5
_ADDED_CHARS_MAX: Final = 6  # "dragon" with so many digits and signs around it is still "dragon"
_PERSONAL_CHARS_MIN: Final = 4
_LOOKALIKES: Final = str.maketrans("0134578@$!", "oleastbasi")
_STEPS: Final = frozenset({-1, 0, 1})
_STEPS_SHARE_MIN: Final = 0.75
Result = TypeVar("Result")


def prepared(password: str) -> str:
    """The password as it is hashed: in NFC, as keyboards differ in how they write the same text (RFC 8265, 4.2)."""
    return normalize("NFC", password)


def weakness(password: str, email: str, name: str) -> str | None:
    """Why the password may not be used, for the person who chose it; None when it may."""
    password = prepared(password)
    lower = password.lower()
    if len(password) < limits.PASSWORD_CHARS_MIN:
        return f"The password has {len(password)} characters; it takes at least {limits.PASSWORD_CHARS_MIN}."
    if len(password) > limits.PASSWORD_CHARS_MAX:
        return f"The password has {len(password)} characters; at most {limits.PASSWORD_CHARS_MAX} are taken."
    if len(set(lower)) < _DIFFERENT_CHARS_MIN:
        return "The password repeats the same few characters."
    if _is_sequence(lower):
        return "The password is mostly a sequence such as 1234 or abcd."
    for personal in _personal(email, name):
        if personal in lower:
            return f"The password contains {personal!r}, which is part of your name or e-mail address."
    word = _common_word(lower)
    if word is not None:
        return f"The password is among the first that are tried: it comes from {word!r}."
    return None


def _is_sequence(text: str) -> bool:
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    return sum(step in _STEPS for step in steps) >= _STEPS_SHARE_MIN * len(steps)


def _personal(email: str, name: str) -> list[str]:
    words = [email.lower(), email.lower().partition("@")[0], *re.split(r"\W+", normalize("NFC", name).lower())]
    return [word for word in words if len(word) >= _PERSONAL_CHARS_MIN]


def _common_word(lower: str) -> str | None:
    """The common password that this one is: itself, repeated, with digits and signs around it, or with look-alikes."""
    common = common_passwords()
    core = lower.strip("0123456789!@#$%^&*()_-+=.,?/\\ ")
    is_little_added = len(lower) - len(core) <= _ADDED_CHARS_MAX
    for text in (lower, core) if core and is_little_added else (lower,):
        for plain in (text, text.translate(_LOOKALIKES)):
            unit = _repeated(plain)
            if plain in common or unit in common:
                return unit if unit in common else plain
    return None


def _repeated(text: str) -> str:
    """The shortest text that this one repeats; itself if it repeats none."""
    return text[: (text + text).index(text, 1)] if text else text


@lru_cache(1)
def common_passwords() -> frozenset[str]:
    """The passwords and words that are tried first, in lower case."""
    lines = _COMMON_FILE.read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))


def _step_back() -> None:
    """Gives this thread, and those that Argon2 starts from it, less of the processor than the others have. (On Linux a
    thread has a niceness of its own.)"""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), limits.HASHING_NICENESS)


class PasswordHasher:
    """Hashes and compares, in threads of its own (rule 2). `profile` is for tests, which have no secrets to keep."""

    def __init__(self, profile: argon2.Parameters = ARGON2) -> None:
        self._argon2 = argon2.PasswordHasher.from_parameters(profile)
        self._threads = ThreadPoolExecutor(limits.HASHES_AT_ONCE, "passwords", initializer=_step_back)
        self._waiting = 0
        # Rule 3: of no password, but as dear as any.
        self._nobodys = (
            f"$argon2id$v={profile.version}$m={profile.memory_cost},t={profile.time_cost},p={profile.parallelism}"
            f"${'A' * 22}${'A' * 43}"
        )

    async def hash(self, password: str) -> str:
        """A new hash. Raises `Problem` when too many wait."""
        return await self._run(lambda: self._argon2.hash(prepared(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed; for None the same work, and no. Raises `Problem` when too
        many wait."""
        is_right = await self._run(lambda: self._is_right(password_hash or self._nobodys, password))
        return is_right and password_hash is not None

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether it was made by other parameters than a new one would be."""
        return self._argon2.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_right(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, prepared(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= limits.HASHES_AT_ONCE + limits.HASHES_WAITING_MAX:
            raise Problem(
                refusals.OVERLOADED, "Too many sign-ins at once.", retry_after_ms=limits.HASHES_RETRY_AFTER_MS
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
