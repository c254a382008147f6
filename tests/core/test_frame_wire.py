"""The wire between gateway and host: frames come out as they went in, however they are cut, and what does not keep to
the wire is a `WireError` and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.frame_wire import (
    ANSWERS,
    COLLECT,
    FAILED,
    INCARNATION_BYTES_MAX,
    OK,
    REQUESTS,
    SUBMIT,
    Frame,
    FrameDecoder,
    GatewayHandshake,
    HostHandshake,
    WireError,
    decode_ticket,
    encode_frame,
    encode_ticket,
    proof,
    wire_key,
)

KEY, OTHER_KEY = wire_key(b"s" * 32), wire_key(b"t" * 32)
HOST_NONCE, GATEWAY_NONCE = b"h" * 32, b"g" * 32
INCARNATION = "host-0/4711/1795341600123000000"
PAYLOAD_BYTES_MAX = 50

frames = st.builds(
    Frame, st.integers(0, 2**64 - 1), st.sampled_from(sorted(REQUESTS)), st.binary(max_size=PAYLOAD_BYTES_MAX)
)


def decoder() -> FrameDecoder:
    return FrameDecoder(REQUESTS, PAYLOAD_BYTES_MAX)


def chunks(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The data, cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return (data[start:end] for start, end in pairwise(places))


# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "encoded"),
    [
        (Frame(1, SUBMIT, b"abc"), "0000000c000000000000000101616263"),
        (Frame(2**64 - 1, COLLECT, encode_ticket(258)), "00000011ffffffffffffffff020000000000000102"),
        (Frame(7, OK, b""), "00000009000000000000000780"),
        (Frame(8, FAILED, b"no"), "0000000b0000000000000008816e6f"),
    ],
)
def test_a_frame_is_these_bytes(frame: Frame, encoded: str) -> None:
    assert encode_frame(*frame).hex() == encoded
    assert FrameDecoder(REQUESTS | ANSWERS, PAYLOAD_BYTES_MAX).feed(bytes.fromhex(encoded)) == [frame]


@given(st.lists(frames, max_size=8), st.lists(st.integers(min_value=0), max_size=20))
def test_any_cutting_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode_frame(*frame) for frame in sent)
    taking = decoder()
    assert [frame for chunk in chunks(data, cuts) for frame in taking.feed(chunk)] == sent


@given(st.lists(frames, min_size=1, max_size=4), st.integers(1, 10))
def test_an_unfinished_frame_is_waited_for(sent: list[Frame], missing: int) -> None:
    data = b"".join(encode_frame(*frame) for frame in sent)
    taking = decoder()
    assert taking.feed(data[:-missing]) == sent[:-1] or missing > len(encode_frame(*sent[-1]))
    assert taking.feed(data[-missing:])[-1] == sent[-1]


@given(st.lists(frames, max_size=3), st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=20))
def test_garbage_is_an_error_or_waits_and_never_more_than_a_frame(
    sent: list[Frame], garbage: bytes, cuts: list[int]
) -> None:
    taking = decoder()
    try:
        for chunk in chunks(b"".join(encode_frame(*frame) for frame in sent) + garbage, cuts):
            for frame in taking.feed(chunk):
                assert frame.kind in REQUESTS
                assert len(frame.payload) <= PAYLOAD_BYTES_MAX
    except WireError:
        return
    assert sum(map(len, taking._pieces)) < len(encode_frame(0, SUBMIT, bytes(PAYLOAD_BYTES_MAX)))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no room for id and kind", "000000080000000000000001"),
        ("nothing", "00000000"),
        ("too long, told by its first four bytes", "0000003c"),
        ("as long as can be told", "ffffffff"),
        ("unknown kind", "00000009000000000000000103"),
        ("an answer where a request is due", "00000009000000000000000180"),
        ("good, then bad", "0000000900000000000000010100000000"),
    ],
)
def test_a_malformed_frame_is_an_error_whichever_way_it_comes(name: str, data: str) -> None:
    malformed = bytes.fromhex(data)
    with pytest.raises(WireError):
        decoder().feed(malformed)
    taking = decoder()
    with pytest.raises(WireError):
        list(map(taking.feed, chunks(malformed, range(len(malformed)))))


def test_the_longest_frame_passes() -> None:
    longest = Frame(1, SUBMIT, bytes(PAYLOAD_BYTES_MAX))
    assert decoder().feed(encode_frame(*longest)) == [longest]


@given(st.binary(max_size=20))
def test_a_ticket_has_eight_bytes(payload: bytes) -> None:
    if len(payload) == 8:
        assert encode_ticket(decode_ticket(payload)) == payload
    else:
        with pytest.raises(WireError):
            decode_ticket(payload)


# --- handshake --------------------------------------------------------------------------------------------------------


def host(key: bytes = KEY, incarnation: str = INCARNATION, nonce: bytes = HOST_NONCE) -> HostHandshake:
    return HostHandshake(key, incarnation, nonce)


def gateway(key: bytes = KEY, incarnation: str = INCARNATION, nonce: bytes = GATEWAY_NONCE) -> GatewayHandshake:
    return GatewayHandshake(key, incarnation, nonce)


@given(st.text(max_size=50), *[st.lists(st.integers(min_value=0), max_size=5)] * 3)
def test_both_sides_prove_themselves_however_the_bytes_are_cut(
    incarnation: str, hello_cuts: list[int], claim_cuts: list[int], proof_cuts: list[int]
) -> None:
    ours, theirs = host(incarnation=incarnation), gateway(incarnation=incarnation)
    claim = b"".join([theirs.feed(chunk) for chunk in chunks(ours.hello, hello_cuts)])
    replies = [ours.feed(chunk) for chunk in chunks(claim, claim_cuts) if chunk]
    assert replies[:-1] == [None] * (len(replies) - 1)
    assert replies[-1] is not None
    assert not theirs.is_done
    assert b"".join([theirs.feed(chunk) for chunk in chunks(replies[-1], proof_cuts)]) == b""
    assert theirs.is_done


@pytest.mark.parametrize(
    ("name", "claimant"),
    [
        ("another secret", gateway(key=OTHER_KEY)),
        ("another incarnation", gateway(incarnation=INCARNATION + "1")),
        ("no incarnation", gateway(incarnation="")),
    ],
)
def test_a_host_refuses(name: str, claimant: GatewayHandshake) -> None:
    ours = host()
    with pytest.raises(WireError):
        ours.feed(claimant.feed(ours.hello))


def test_a_claim_that_was_overheard_is_of_no_use() -> None:
    overheard = gateway().feed(host().hello)
    assert host().feed(overheard) is not None
    with pytest.raises(WireError, match="wrong proof"):
        host(nonce=b"i" * 32).feed(overheard)


def test_a_host_that_knows_no_secret_cannot_send_the_gateways_proof_back() -> None:
    theirs = gateway()
    claim = theirs.feed(host().hello)
    with pytest.raises(WireError, match="wrong proof"):
        theirs.feed(claim[32:64])
    assert not theirs.is_done


def test_the_hosts_proof_is_for_this_gateways_nonce() -> None:
    ours, theirs = host(), gateway()
    theirs.feed(ours.hello)
    with pytest.raises(WireError, match="wrong proof"):
        theirs.feed(proof(KEY, b"host", HOST_NONCE, b"x" * 32, INCARNATION.encode()))


@pytest.mark.parametrize(
    ("name", "hello"),
    [
        ("another version", host().hello[:4] + b"\x02" + host().hello[5:]),
        ("something else listens there", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("told by its first byte", b"*"),
        ("more behind it", host().hello + b"\0"),
    ],
)
def test_a_gateway_refuses(name: str, hello: bytes) -> None:
    with pytest.raises(WireError):
        gateway().feed(hello)


def test_nothing_may_come_behind_a_claim_or_a_proof() -> None:
    ours, theirs = host(), gateway()
    claim = theirs.feed(ours.hello)
    with pytest.raises(WireError, match="more behind"):
        host().feed(claim + encode_frame(1, SUBMIT, b""))
    reply = ours.feed(claim)
    assert reply is not None
    with pytest.raises(WireError, match="more behind"):
        theirs.feed(reply + encode_frame(1, OK, b""))


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0), max_size=5))
def test_garbage_proves_nothing(garbage: bytes, cuts: list[int]) -> None:
    ours, theirs, claimed = host(), gateway(), gateway()
    claimed.feed(ours.hello)
    for feed in (ours.feed, theirs.feed, claimed.feed):
        try:
            answers = [feed(chunk) for chunk in chunks(garbage, cuts)]
        except WireError:
            continue
        assert not any(answers)
    assert not theirs.is_done
    assert not claimed.is_done


def test_an_incarnation_that_the_wire_cannot_carry_is_refused_where_it_is_made() -> None:
    host(incarnation="h" * INCARNATION_BYTES_MAX)
    with pytest.raises(ValueError, match="incarnation"):
        host(incarnation="h" * (INCARNATION_BYTES_MAX + 1))
