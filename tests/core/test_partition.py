"""The partition, input by input: what leaves when, what waits for what, and what happens when the journal fails."""

from __future__ import annotations

from typing import Any

import pytest

from actors.codec import decode_facts, encode_facts
from actors.commands import ChangeTenant
from actors.entry import EMPTY_PAYLOAD, Mark
from actors.facts import ScanJudged
from actors.queries import GetCard, GetEvent, GetTopic
from actors.replies import CardView, Done, EventView, Failed
from actors.tenant import Tenant
from actors.terms import TenantSettings
from tests.core.build import NOW_MS, award, card, check_in, event, founding, redeem, signed, tenant
from tests.core.drive import Drive, driven, projected_away

OLD_ID = "scan-without-a-time"


# --- replies wait for the journal ------------------------------------------------------------------------------------


def test_a_reply_leaves_when_its_entry_is_durable() -> None:
    drive = driven()
    drive.send(("a", check_in("1")))
    assert drive.replies == {}
    drive.appended()
    assert drive.reply("a") == Done(drive.reply("a").fact, False, 3 << 16)


def test_a_read_waits_for_what_it_has_seen() -> None:
    drive = driven()
    drive.send(("scan", check_in("1")), ("read", GetEvent("org", "event")))
    assert drive.replies == {}
    drive.appended()
    assert isinstance(drive.reply("read"), EventView)
    assert drive.reply("read").inside == 1
    drive.send(("again", GetEvent("org", "event")))
    assert drive.reply("again").inside == 1


def test_a_read_waits_for_the_last_of_several_entries() -> None:
    drive = driven()
    drive.send(("a", award(1, "a")))
    drive.send(("b", award(1, "b")))
    drive.send(("read", GetCard("org", "card")))
    drive.appended()
    assert "read" not in drive.replies
    drive.appended()
    assert drive.reply("read").balance == 2


def test_a_duplicate_in_flight_waits_for_the_originals_durability() -> None:
    drive = driven()
    drive.send(("a", check_in("1")))
    drive.send(("b", check_in("1")), ("c", check_in("1", "card2")))
    assert drive.replies == {}
    drive.appended()
    assert (drive.reply("a").replayed, drive.reply("b").replayed) == (False, True)
    assert drive.reply("a").fact is drive.reply("b").fact
    assert drive.reply("c").code == "id_reused"


def test_a_topic_is_published_only_when_durable() -> None:
    drive = driven()
    drive.send(("scan", check_in("1")), ("topic", GetTopic("org", "event:event")))
    drive.send(("scan2", check_in("2", "card2")))
    assert drive.published == []
    drive.appended()
    assert [digest.update.data.inside for digest in drive.published] == [1]
    drive.now_ms += 1_000
    drive.appended()
    drive.tick()
    assert [digest.update.data.inside for digest in drive.published] == [1, 2]


def test_appends_are_pipelined_and_bounded() -> None:
    drive = driven(appends_in_flight_max=2)
    for number in range(5):
        drive.send((number, award(1, f"a{number}")))
    assert [effect.entry.seq for effect in drive.appends] == [3, 4]
    assert drive.appends[1].previous == drive.appends[0].entry.checksum
    drive.appended()
    assert sorted(drive.replies) == [0]
    assert [len(decode_facts(effect.entry)) for effect in drive.appends] == [1, 3], "what gathered goes as one entry"
    drive.appended()
    drive.appended()
    assert sorted(drive.replies) == [0, 1, 2, 3, 4]


def test_an_entry_is_closed_when_it_is_long_enough() -> None:
    drive = driven(appends_in_flight_max=2, entry_bytes_target=1)
    drive.send(*((number, award(1, f"a{number}")) for number in range(4)))
    assert [len(decode_facts(effect.entry)) for effect in drive.appends] == [1, 1]
    while drive.appends:
        drive.appended()
    assert sorted(drive.replies) == [0, 1, 2, 3]


# --- the journal fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_written", [True, False])
def test_an_unknown_outcome_ends_the_memory_and_everything_is_judged_again(is_written: bool) -> None:
    drive = driven()
    drive.send(("a", award(7, "a")))
    drive.send(("b", redeem(5, "b")))
    append = drive.appends.pop(0)
    if is_written:
        drive.journal.append(append.entry)
    drive.do(drive.partition.on_append_failed(append.entry.epoch, False, drive.now_ms))
    assert drive.opens[-1].expected_epoch == 2
    drive.appends.clear()
    drive.do(drive.partition.on_append_failed(append.entry.epoch, False, drive.now_ms))
    assert len(drive.opens) == 2, "the failure of the next one in flight changes nothing"
    drive.opened()
    while drive.appends:
        drive.appended()
    assert (drive.reply("a").replayed, drive.reply("b").replayed) == (is_written, False)
    assert drive.reply("b").fact.balance_after == 2


def test_a_report_of_an_old_epoch_changes_nothing() -> None:
    drive = driven()
    drive.send(("a", award(7, "a")))
    drive.send(("b", award(7, "b")))
    old = [drive.appends.pop(0).entry, drive.appends.pop(0).entry]
    drive.do(drive.partition.on_append_failed(2, False, drive.now_ms))
    drive.opened()
    drive.do(drive.partition.on_appended(2, old[1].seq, 0, drive.now_ms))
    assert drive.replies == {}
    drive.do(drive.partition.on_append_failed(2, True, drive.now_ms))
    assert drive.partition.state == "open"


def test_a_fenced_partition_closes_and_answers_moved() -> None:
    drive = driven()
    drive.send(("a", award(7, "a")), ("b", GetCard("org", "card")))
    drive.do(drive.partition.on_append_failed(2, True, drive.now_ms))
    drive.send(("c", award(7, "c")))
    assert drive.partition.state == "closed"
    assert {drive.reply(token).code for token in "abc"} == {"moved"}
    assert len(drive.opens) == 1, "it never takes itself back"


def test_what_is_received_while_opening_waits_and_is_answered_once_open() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    drive.send(("a", award(7, "a")))
    drive.do(drive.partition.on_open_failed(drive.opens[-1].attempt, "away", "redis", drive.now_ms))
    assert len(drive.opens) == 2
    drive.write(encode_facts(founding()), 1)
    drive.opened()
    drive.appended()
    assert isinstance(drive.reply("a"), Done)


@pytest.mark.parametrize(("failure", "state"), [("fenced", "closed"), ("corrupt", "halted")])
def test_an_open_that_cannot_be(failure: Any, state: str) -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    drive.send(("a", award(7, "a")))
    drive.do(drive.partition.on_open_failed(drive.opens[-1].attempt, failure, "why", drive.now_ms))
    assert drive.partition.state == state
    assert drive.reply("a").code == {"closed": "moved", "halted": "partition_halted"}[state]


def test_an_open_that_was_superseded_closes_and_does_not_halt() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    opening = drive.write(EMPTY_PAYLOAD, 1)
    drive.write(EMPTY_PAYLOAD, 2)
    drive.do(drive.partition.on_opened(1, opening, Mark(), drive.journal, {}, NOW_MS))
    assert (drive.partition.state, drive.halts) == ("closed", [])


def test_an_opening_that_is_no_longer_waited_for_changes_nothing() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    drive.do(drive.partition.close(NOW_MS))
    drive.opened()
    assert drive.partition.state == "closed"


def test_a_halt_answers_everybody_once_and_a_later_open_recovers() -> None:
    drive = driven()
    drive.send(("a", award(7, "a")))
    drive.send(("b", award(7, "b", "card9")))
    drive.do(drive.partition.halt("why", drive.now_ms))
    assert {drive.reply(token).code for token in "ab"} == {"partition_halted"}
    assert drive.halts == ["why"]
    drive.do(drive.partition.open(drive.now_ms))
    drive.opened()
    assert drive.partition.state == "open"


def test_no_reply_is_lost_when_a_report_breaks_an_assertion() -> None:
    drive = driven()
    drive.send(("a", award(7, "a")))
    with pytest.raises(AssertionError, match="in the order"):
        drive.partition.on_appended(2, 99, 0, drive.now_ms)
    drive.do(drive.partition.halt("broken", drive.now_ms))
    assert drive.reply("a").code == "partition_halted"


def test_time_goes_on_from_where_the_journal_is() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    drive.now_ms += 5_000
    drive.write(encode_facts(founding()), 1)
    drive.now_ms -= 5_000
    drive.opened()
    drive.send(("a", award(7, "a")))
    drive.appended()
    assert drive.reply("a").fact.at_ms == NOW_MS + 5_000


# --- Postgres --------------------------------------------------------------------------------------------------------


def test_a_load_older_than_the_tail_is_brought_up_to_date() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    first = drive.write(encode_facts(founding()), 1)
    drive.projected = Mark(first.epoch, first.seq, first.checksum)
    # The tail holds a scan of the card; Postgres has the card without it.
    scan = ScanJudged(
        *("org", "old", b"f" * 8, NOW_MS, "event", "card", "", "dev", "entry", NOW_MS, "", "member", "Ann", "gold"),
        *(1, 1, 0, 2, True, 1, 0, 0),
    )
    drive.write(encode_facts([scan]), 1)
    drive.opened()
    drive.send(("a", check_in("019e4654-6920-77a1-8000-d232e46257d6")))
    assert drive.loads[0].request.events == (("org", "event"),)
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()}, events={("org", "event"): event()})
    drive.appended()
    assert drive.reply("a").fact.reason == "already_admitted"


def test_commands_of_one_card_keep_their_order_while_one_waits_and_others_go_on() -> None:
    drive = projected_away()
    drive.send(("t", GetCard("org", "card2")))
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card2"): card("card2")})
    drive.send((1, award(5, OLD_ID)), (2, redeem(5, "r2")), (3, award(1, "x", "card2")))
    assert drive.loads[-1].request.cards == (("org", "card"),)
    assert set(drive.loads[-1].request.requests) == {("org", OLD_ID), ("org", "x")}
    drive.loaded(cards={("org", "card"): card()})
    assert drive.loads[-1].request.requests == (("org", "r2"),)
    drive.loaded()
    while drive.appends:
        drive.appended()
    positions = [drive.reply(token).position for token in (1, 2)]
    assert positions == sorted(positions)
    assert drive.reply(2).fact.balance_after == 0


def test_a_load_that_fails_is_asked_again_later_and_in_time_given_up() -> None:
    drive = projected_away()
    drive.send(("a", GetCard("org", "card")))
    drive.do(drive.partition.on_load_failed(drive.loads[-1].load_id, drive.now_ms))
    drive.tick(1)
    assert len(drive.loads) == 1
    drive.tick(drive.limits.load_retry_ms)
    assert len(drive.loads) == 2
    drive.tick(drive.limits.wait_ms_max + 1)
    assert drive.reply("a").code == "unavailable"
    assert drive.reply("a").retry_after_ms > 0


def test_a_load_that_is_no_longer_waited_for_changes_nothing() -> None:
    drive = projected_away()
    drive.send(("a", GetCard("org", "card")))
    first = drive.loads[-1].load_id
    drive.do(drive.partition.on_load_failed(first, drive.now_ms))
    drive.tick(drive.limits.load_retry_ms)
    drive.loaded(first, tenants={"org": tenant()}, cards={("org", "card"): card()})
    assert drive.replies == {}
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()})
    assert isinstance(drive.reply("a"), CardView)


def test_an_answer_from_before_the_tail_is_not_taken_in() -> None:
    drive = driven()
    drive.do(drive.partition.on_projected(2, drive.now_ms))
    drive.send(("a", GetCard("org", "card9")))
    drive.loaded(projected=Mark(1, 1))
    assert drive.replies == {}
    drive.tick(drive.limits.load_retry_ms)
    drive.loaded(projected=Mark(2, 2))
    assert drive.reply("a").code == "card_unknown"


@pytest.mark.parametrize("told_by", ["hint", "load"])
def test_postgres_ahead_of_the_journal_means_that_we_are_fenced(told_by: str) -> None:
    drive = driven()
    drive.send(("a", GetCard("org", "card9")))
    if told_by == "hint":
        drive.do(drive.partition.on_projected(9, drive.now_ms))
    else:
        drive.loaded(projected=Mark(3, 9))
    assert (drive.partition.state, drive.halts) == ("closed", [])
    assert drive.reply("a").code == "moved"


def test_a_hint_under_a_load_is_noted_after_it() -> None:
    drive = driven()
    drive.send(("a", GetCard("org", "card9")))
    drive.do(drive.partition.on_projected(2, drive.now_ms))
    assert (drive.partition.projected_seq, drive.partition.unprojected_bytes > 1) == (0, True)
    drive.loaded()
    assert (drive.partition.projected_seq, drive.partition.unprojected_bytes) == (2, 0)


def test_only_what_is_projected_is_put_away() -> None:
    drive = driven(cards_resident_max=0, events_resident_max=0)
    drive.send(("a", award(1, "a", "card2")))
    drive.appended()
    drive.do(drive.partition.on_projected(2, drive.now_ms))
    drive.tick()
    assert set(drive.partition.residents.cards) == {"card2"}
    drive.do(drive.partition.on_projected(3, drive.now_ms))
    drive.tick()
    assert set(drive.partition.residents.cards) == set()


def test_what_a_load_told_ends_with_the_memory_it_was_read_with() -> None:
    """Two copies of a request are looked up and found new; the first is decided, the second has no room yet. Then the
    outcome of the first is unknown: the second must not still be taken for new."""
    drive = projected_away(appends_in_flight_max=1, entry_bytes_target=1, wait_ms_max=100)
    drive.send((1, award(5, OLD_ID)), ("between", award(1, "between")), (2, award(5, OLD_ID)))
    drive.now_ms += 50
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()})
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()})
    append = drive.appends.pop()
    assert drive.appends == []
    assert len(drive.partition._mailbox) == 1
    drive.do(drive.partition.on_append_failed(append.entry.epoch, False, drive.now_ms))
    drive.journal.append(append.entry)
    drive.projected = Mark(append.entry.epoch, append.entry.seq, append.entry.checksum)
    assert all(waiting.known is None for waiting in drive.partition._mailbox)
    drive.opened()
    assert drive.appends == []
    assert ("org", OLD_ID) in drive.loads[-1].request.requests


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_mailbox_counts_all_that_is_unanswered() -> None:
    drive = driven(mailbox_messages_max=3)
    drive.send(("a", award(1, "a")), ("b", GetCard("org", "card")), ("c", GetCard("org", "card9")))
    drive.send(("d", award(1, "d")))
    assert drive.reply("d") == Failed("overloaded", "too many messages are waiting", 50)
    drive.appended()
    drive.send(("e", award(1, "e")))
    assert "e" not in drive.replies


def test_a_full_journal_refuses_new_commands_and_still_replays_and_reads() -> None:
    drive = driven(journal_bytes_max=1)
    drive.send(("a", award(1, "a")), ("b", GetCard("org", "card")), ("old", award(1, "issue-card")))
    assert (drive.reply("a").code, drive.reply("old").code) == ("unavailable", "id_reused")
    assert isinstance(drive.reply("b"), CardView)
    drive.do(drive.partition.on_projected(2, drive.now_ms))
    drive.send(("c", award(1, "c")))
    drive.appended()
    assert isinstance(drive.reply("c"), Done)


@pytest.mark.parametrize("state", ["closed", "halted"])
def test_who_has_no_partition_says_so(state: str) -> None:
    drive = Drive()
    if state == "halted":
        drive.do(drive.partition.halt("why", NOW_MS))
    drive.send(("a", award(1, "a")))
    assert drive.reply("a").retry_after_ms > 0
    assert drive.reply("a").code == ("moved" if state == "closed" else "partition_halted")


def test_another_tenants_card_is_as_absent_as_none() -> None:
    drive = driven()
    drive.send(("a", GetCard("org2", "card")))
    drive.loaded(tenants={"org2": Tenant("org2", "Org 2", TenantSettings())})
    assert drive.loads[-1].request.cards == (("org2", "card"),)
    drive.loaded()
    assert drive.reply("a").code == "card_unknown"


def test_a_changed_tenant_is_decided_on_at_once() -> None:
    drive = driven()
    change = signed(ChangeTenant("org", "change", b"", overdraft_max=9))
    drive.send(("a", change), ("b", redeem(9, "b")))
    drive.appended()
    assert drive.reply("b").fact.balance_after == -9
