"""Card numbers: what the check digit finds, that no two cards of an organisation share one, and what is no number."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import card_numbers
from actors.card_numbers import (
    DIGITS,
    SEQUENCE_MAX,
    CardNumberError,
    check_digit,
    formatted,
    number_of,
    parsed,
    sequence_of,
)

TENANT = "org_01k3zq8w5x4v7m9n2p6r"
sequences = st.integers(1, SEQUENCE_MAX)


@pytest.mark.parametrize(
    ("payload", "digit"),
    [
        ("7992739871", "3"),
        ("1789372997", "4"),
        ("411111111111111", "1"),
        ("37828224631000", "5"),
        ("0", "0"),
        ("9", "1"),
        ("18", "2"),
    ],
)
def test_known_check_digits(payload: str, digit: str) -> None:
    """Examples of the algorithm in common use, payment processors' test numbers among them."""
    assert check_digit(payload) == digit


def test_released_numbers_stay() -> None:
    """They are printed on cards."""
    assert [formatted(number_of(TENANT, sequence)) for sequence in (1, 2, SEQUENCE_MAX)] == [
        "9908 6822 4938 7084",
        "9949 0546 8722 2754",
        "9735 8399 1717 6939",
    ]


@given(sequences)
def test_a_number_is_read_as_it_is_written(sequence: int) -> None:
    number = number_of(TENANT, sequence)
    assert (len(number), number[0], number.isdecimal()) == (DIGITS, "9", True)
    for written in (number, formatted(number), formatted(number).replace(" ", "-"), f" {number} "):
        assert parsed(written) == number


@given(sequences)
def test_every_single_wrong_digit_is_found(sequence: int) -> None:
    number = number_of(TENANT, sequence)
    for at in range(DIGITS):
        for digit in "0123456789".replace(number[at], ""):
            with pytest.raises(CardNumberError):
                parsed(number[:at] + digit + number[at + 1 :])


@given(sequences)
def test_every_swap_of_neighbours_is_found_but_for_0_and_9(sequence: int) -> None:
    number = number_of(TENANT, sequence)
    for at in range(DIGITS - 1):
        pair = number[at : at + 2]
        swapped = number[:at] + pair[::-1] + number[at + 2 :]
        is_found = card_numbers._luhn_sum(swapped) % 10 != 0
        assert is_found == (pair[0] != pair[1] and set(pair) != {"0", "9"}), pair


def test_each_swap_of_two_digits_there_is() -> None:
    for first in "0123456789":
        for second in "0123456789":
            payload = f"9{first}{second}000000000000"
            is_blind = check_digit(payload) == check_digit(f"9{second}{first}000000000000")
            assert is_blind == (first == second or {first, second} == {"0", "9"}), (first, second)


def test_no_two_cards_of_an_organisation_share_a_number() -> None:
    """The first twenty thousand, and the last; what makes it so is the next test."""
    numbers = {number_of(TENANT, sequence) for sequence in range(1, 20_001)}
    numbers |= {number_of(TENANT, SEQUENCE_MAX - before) for before in range(1_000)}
    assert len(numbers) == 21_000


@given(st.sampled_from(["org_1", "org_2", TENANT]), sequences)
def test_a_number_can_be_traced_back_so_it_is_nobody_elses(tenant_id: str, sequence: int) -> None:
    assert sequence_of(tenant_id, number_of(tenant_id, sequence)) == sequence


def test_a_number_tells_nothing_of_its_neighbours() -> None:
    """Every digit but the first takes every value, also among the first cards, and the steps between them differ."""
    numbers = [number_of(TENANT, sequence) for sequence in range(1, 501)]
    for at in range(1, DIGITS):
        assert {number[at] for number in numbers} == set("0123456789"), at
    steps = {int(after) - int(before) for before, after in pairwise(numbers)}
    assert len(steps) == len(numbers) - 1
    assert numbers[0] != number_of("org_2", 1)


@pytest.mark.parametrize("sequence", [0, -1, SEQUENCE_MAX + 1])
def test_cards_that_cannot_be_counted(sequence: int) -> None:
    with pytest.raises(ValueError, match="from 1 to"):
        number_of(TENANT, sequence)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "16 digits, not 0"),
        ("9000 0000 0000 000", "16 digits, not 15"),
        ("9000 0000 0000 00000", "16 digits, not 17"),
        ("9000 0000 0000 000x", "not 'x'"),
        ("９000 0000 0000 0003", "not '９'"),
        ("9000\t0000 0000 0003", r"not '\\t'"),
        ("4111 1111 1111 1111", "begins with 9, not with 4"),
        ("9000 0000 0000 0000", "check digit"),
    ],
)
def test_what_is_no_number(text: str, why: str) -> None:
    with pytest.raises(CardNumberError, match=why):
        parsed(text)
