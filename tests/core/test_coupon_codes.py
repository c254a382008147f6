"""The texts of coupon codes: derived, unguessable, with a check character."""

from __future__ import annotations

from gateway.coupon_codes import code_id, is_mistyped, issued_code, normalised
from gateway.identity.tokens import SecretMaker
from gateway.ids import ALPHABET

SECRETS = SecretMaker(b"s" * 32)


def test_a_code_depends_on_organisation_request_and_number_and_on_nothing_else() -> None:
    first = issued_code(SECRETS, "org", "request", 0)
    assert issued_code(SECRETS, "org", "request", 0) == first
    others = {issued_code(SECRETS, *which) for which in (("org", "request", 1), ("org", "r", 0), ("o", "request", 0))}
    assert len(others | {first, issued_code(SecretMaker(b"t" * 32), "org", "request", 0)}) == 5


def test_every_character_carries_five_random_bits() -> None:
    codes = [normalised(issued_code(SECRETS, "org", "request", number)) for number in range(1_000)]
    assert len(set(codes)) == 1_000
    for place in range(14):
        assert {code[place] for code in codes} == set(ALPHABET.upper())


def test_people_may_type_it_as_they_like() -> None:
    code = issued_code(SECRETS, "org", "request", 3)
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert normalised(typed) == normalised(code)
    assert code_id("org", typed) == code_id("org", code) != code_id("other", code)


def test_one_wrong_character_is_noticed() -> None:
    code = normalised(issued_code(SECRETS, "org", "request", 4))
    assert not is_mistyped(code)
    for place in range(len(code)):
        for character in ALPHABET.upper():
            if character != code[place]:
                assert is_mistyped(code[:place] + character + code[place + 1 :])
    assert is_mistyped("U" + code[1:])


def test_a_shared_code_is_never_taken_for_an_issued_one() -> None:
    assert not is_mistyped(normalised("SUMMER26"))
