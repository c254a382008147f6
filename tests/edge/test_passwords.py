"""Passwords: which ones are refused and why, and hashing that never holds up the event loop or runs out of memory."""

from __future__ import annotations

import asyncio
import os
import threading

import argon2
import pytest

from gateway.identity import limits, passwords
from gateway.identity.passwords import ARGON2, PasswordHasher, common_passwords, weakness
from gateway.problems import Problem
from tests.support.identity import CHEAP

EMAIL, NAME = "ann.smith@example.com", "Ann-Marie Nguyễn"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "has 0 characters"),
        ("x7#kPq9!z", "has 9 characters; it takes at least 10"),
        ("x7#kPq9!zM" * 13, "has 130 characters; at most 128"),
        ("aabbaabbaabb", "repeats the same few"),
        ("12345678901", "sequence"),
        ("abcdefghijklm", "sequence"),
        ("9876543210zz", "sequence"),
        ("password1234", "comes from 'password1234'"),
        ("Password2024!", "comes from 'password'"),
        ("!!p@ssw0rd99", "comes from 'password'"),
        ("dragondragon", "comes from 'dragon'"),
        ("Qwertyuiop", "comes from 'qwertyuiop'"),
        ("MatKhau123456", "comes from 'matkhau'"),
        ("xx ann.smith 77", "contains 'ann.smith'"),
        ("my-marie-2771", "contains 'marie'"),
        ("nguyễn-so-8842", "contains 'nguyễn'"),
        ("nguye\u0302\u0303n-so-8842", "contains 'nguyễn'"),
    ],
)
def test_weak_ones_are_refused_with_the_reason(password: str, reason: str) -> None:
    found = weakness(password, EMAIL, NAME)
    assert found is not None
    assert reason in found


@pytest.mark.parametrize(
    "password",
    [
        "x7#kPq9!zM",
        "correct horse battery staple",
        "dragon-8842-lamp",
        "ắn quả nhớ kẻ trồng cây",
        "k" * 5 + "Q7#m!" * 24,
    ],
)
def test_what_is_hard_to_guess_is_taken_whatever_it_is_made_of(password: str) -> None:
    assert weakness(password, EMAIL, NAME) is None


def test_short_parts_of_a_name_do_not_count() -> None:
    assert weakness("annular-8842-lamp", "a@b.vn", "Ann Lam") is None


def test_the_bundled_list_is_there() -> None:
    common = common_passwords()
    assert len(common) > 4_000
    assert {"password", "qwertyuiop", "matkhau"} <= common
    assert not any(word.startswith("#") and " " in word for word in common), "no comment is a password"


async def test_a_password_is_known_by_its_hash() -> None:
    hasher = PasswordHasher(CHEAP)
    made = await hasher.hash("correct horse")
    assert made != await hasher.hash("correct horse"), "each has a salt of its own"
    assert await hasher.verify(made, "correct horse")
    assert not await hasher.verify(made, "correct  horse")
    assert not await hasher.verify("nonsense", "correct horse")
    assert not await hasher.verify(None, "correct horse")
    hasher.close()


async def test_the_same_text_typed_on_another_keyboard_is_the_same_password() -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(await hasher.hash("qu\u00e1n-c\u00e0-ph\u00ea"), "qua\u0301n-ca\u0300-phe\u0302")
    hasher.close()


async def test_the_parameters_are_those_of_rfc_9106_and_older_hashes_are_renewed() -> None:
    assert (ARGON2.type, ARGON2.time_cost, ARGON2.memory_cost, ARGON2.parallelism) == (argon2.Type.ID, 3, 65_536, 4)
    cheap, dear = PasswordHasher(CHEAP), PasswordHasher()
    made = await cheap.hash("correct horse")
    assert dear.needs_rehash(made)
    assert await dear.verify(made, "correct horse"), "until then they are good"
    assert not cheap.needs_rehash(made)
    cheap.close()
    dear.close()


async def test_nobodys_password_costs_what_anybodys_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[argon2.Parameters] = []

    def verify(self: argon2.PasswordHasher, hash: str, password: str) -> bool:
        compared.append(argon2.extract_parameters(hash))
        raise argon2.exceptions.VerifyMismatchError

    hasher = PasswordHasher(CHEAP)
    made = await hasher.hash("correct horse")
    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    await hasher.verify(made, "wrong")
    await hasher.verify(None, "wrong")
    assert compared == [CHEAP, CHEAP]
    hasher.close()


async def test_check_ins_go_before_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def prepared(password: str) -> str:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return password

    monkeypatch.setattr(passwords, "prepared", prepared)
    hasher = PasswordHasher(CHEAP)
    await hasher.hash("correct horse")
    assert seen == [limits.HASHING_NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < limits.HASHING_NICENESS
    hasher.close()


async def test_few_hash_at_once_some_wait_and_the_rest_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HASHES_WAITING_MAX", 3)
    go, lock = threading.Event(), threading.Lock()
    at_work = most_at_work = 0

    def slow(password: str) -> str:
        nonlocal at_work, most_at_work
        with lock:
            at_work += 1
            most_at_work = max(most_at_work, at_work)
        go.wait(10)
        with lock:
            at_work -= 1
        return password

    monkeypatch.setattr(passwords, "prepared", slow)
    hasher = PasswordHasher(CHEAP)
    tasks = [asyncio.create_task(hasher.hash("correct horse")) for _ in range(limits.HASHES_AT_ONCE + 3)]
    await asyncio.sleep(0)
    with pytest.raises(Problem, match="overloaded"):
        await hasher.hash("correct horse")
    go.set()
    assert len(await asyncio.gather(*tasks)) == 5
    assert most_at_work <= limits.HASHES_AT_ONCE
    assert await hasher.hash("correct horse"), "afterwards there is room again"
    hasher.close()
