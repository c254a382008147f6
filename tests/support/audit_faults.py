"""Faults to plant into a copy of a history (`tests.support.small_history`), each with the check that has to find it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from actors.entry import sealed
from storage.audit import FactListener, NotLive, PartitionAudit, Sources, audit, summary
from storage.postgres import Pool
from storage.postgres_store import PostgresStore
from tests.support.coupon_faults import ROW_FAULTS
from tests.support.small_history import FIRST, PARTITION_COUNT, SECOND, THIRD, History

JOURNAL = "mv:{p01}:journal"


class FrozenLive:
    """The actors of the host that made the history, as they were at its end."""

    def __init__(self, digests: dict[int, tuple[int, dict[str, bytes]]]) -> None:
        self.by_partition = dict(digests)

    async def digests(self, partition: int) -> tuple[int, dict[str, bytes]]:
        if partition not in self.by_partition:
            raise NotLive("it is halted: planted")
        return self.by_partition[partition]


@dataclass
class System:
    """A copy of the history that a test may damage."""

    pool: Pool
    redis: Redis
    live: FrozenLive
    history: History

    async def audit(self, *listeners: FactListener, live: bool = True) -> list[PartitionAudit]:
        store = PostgresStore(self.pool)
        with_live = self.live if live else None
        return await audit(Sources(self.pool, self.redis, store, PARTITION_COUNT, with_live, listeners))

    async def failing(self) -> set[str]:
        """The names of the checks that fail."""
        return {check for check, number in summary(await self.audit()).items() if number}

    async def sql(self, query: str, *arguments: object) -> None:
        """Changes something; the planted fault must hit."""
        status = await self.pool.execute(query, *arguments)
        assert status.split()[-1] != "0", status


Plant = Callable[[System], Awaitable[None]]


async def lose_a_ledger_row(system: System) -> None:
    await system.sql(
        "DELETE FROM ledger WHERE tenant_id = $1 AND card_id = $2 AND entry_seq = 2", FIRST, f"card_{FIRST}_0"
    )


async def change_a_balance(system: System) -> None:
    await system.sql("UPDATE cards SET balance = balance + 1 WHERE card_id = $1", f"card_{FIRST}_0")


async def change_an_amount(system: System) -> None:
    await system.sql("UPDATE ledger SET amount = amount + 1 WHERE tenant_id = $1 AND entry_seq = 1", SECOND)


async def change_a_wallet(system: System) -> None:
    await system.sql("UPDATE cards SET wallet = wallet - 1 WHERE card_id = $1", f"card_{FIRST}_1")


async def change_an_account(system: System) -> None:
    await system.sql(
        "UPDATE tenant_accounts SET balance = balance + 1 WHERE tenant_id = $1 AND account = 'points:issued'", FIRST
    )


async def forget_an_account(system: System) -> None:
    await system.sql("DELETE FROM tenant_accounts WHERE tenant_id = $1 AND account = 'wallet:spent'", SECOND)


async def open_a_hold_again(system: System) -> None:
    await system.sql("UPDATE holds SET state = 'open' WHERE tenant_id = $1 AND state = 'capture'", FIRST)


async def put_an_alarm_off(system: System) -> None:
    await system.sql("UPDATE alarms SET wake_ms = wake_ms + 1 WHERE tenant_id = $1", FIRST)


async def move_people_between_zones(system: System) -> None:
    await system.sql("UPDATE event_zones SET inside = inside + 1 WHERE tenant_id = $1 AND zone_id = 'zone_2'", SECOND)


async def take_a_card_off_the_list(system: System) -> None:
    await system.sql("UPDATE admission_list SET is_listed = NOT is_listed WHERE tenant_id = $1", SECOND)


async def lose_an_annulment(system: System) -> None:
    await system.sql("DELETE FROM annulments WHERE tenant_id = $1", SECOND)


async def change_an_answer(system: System) -> None:
    await system.sql("UPDATE answers SET answer = 'yes' WHERE tenant_id = $1", SECOND)


async def wind_a_tag_back(system: System) -> None:
    await system.sql("UPDATE tags SET counter = counter - 1 WHERE tenant_id = $1 AND counter > 0", SECOND)


async def give_an_old_credential_back(system: System) -> None:
    await system.sql("UPDATE cards SET serial = serial - 1 WHERE tenant_id = $1 AND serial > 0", SECOND)


async def forget_visits(system: System) -> None:
    await system.sql("UPDATE cards SET visits = '' WHERE tenant_id = $1 AND visits <> ''", FIRST)


async def put_a_schedule_off(system: System) -> None:
    await system.sql("UPDATE rule_schedules SET state = '[[],null]' WHERE tenant_id = $1", SECOND)


async def forget_a_profile(system: System) -> None:
    await system.sql("UPDATE cards SET profile = '' WHERE card_id = $1", f"card_{SECOND}_5")


async def rewrite_a_rule(system: System) -> None:
    await system.sql("UPDATE rules SET definition = '' WHERE tenant_id = $1 AND rule_id = 'rule_1'", SECOND)


async def lose_a_version_of_a_rule(system: System) -> None:
    await system.sql("DELETE FROM rule_versions WHERE tenant_id = $1 AND rule_id = 'rule_2' AND version = 1", SECOND)


async def refill_a_budget(system: System) -> None:
    await system.sql("UPDATE rule_points SET points = 0 WHERE tenant_id = $1 AND rule_id = 'rule_1'", SECOND)


async def forgive_a_rule(system: System) -> None:
    await system.sql("UPDATE rule_failures SET reason = 'overflow' WHERE tenant_id = $1", SECOND)


async def forget_a_use_of_a_rule(system: System) -> None:
    await system.sql("UPDATE rule_uses SET times = times - 1 WHERE tenant_id = $1", SECOND)


async def change_what_was_earned_on_a_day(system: System) -> None:
    await system.sql("UPDATE earned_days SET points = points + 1 WHERE tenant_id = $1", SECOND)


async def lose_a_change_of_tier(system: System) -> None:
    await system.sql("DELETE FROM tier_changes WHERE tenant_id = $1 AND reason = 'until'", SECOND)


async def hide_a_conflict(system: System) -> None:
    await system.sql("UPDATE scans SET conflict = '' WHERE tenant_id = $1 AND conflict <> ''", SECOND)


async def lower_a_count(system: System) -> None:
    await system.sql("UPDATE events SET inside = inside - 1 WHERE event_id = $1", f"evt_{FIRST}")


async def raise_the_refused(system: System) -> None:
    await system.sql("UPDATE events SET refused = refused + 1 WHERE event_id = $1", f"evt_{SECOND}")


async def duplicate_a_scan(system: System) -> None:
    columns = (
        "event_id, at_ms, scanned_at_ms, card_id, gate_id, device_id, direction, reason, member_id, member_name, tier"
    )
    columns += (
        ", inside, admitted, points_awarded, points_balance, first_at_ms, first_gate_id, first_device_id, tenant_id"
    )
    await system.sql(
        f"INSERT INTO scans (position, request_id, {columns}) SELECT position + 1000, 'another', {columns} FROM scans"
        " WHERE tenant_id = $1 ORDER BY position LIMIT 1",
        FIRST,
    )


async def lose_a_scan(system: System) -> None:
    await system.sql("DELETE FROM scans WHERE reason = 'full' AND tenant_id = $1", SECOND)


async def give_a_scan_to_another_tenant(system: System) -> None:
    await system.sql(
        "UPDATE scans SET tenant_id = $2 WHERE tenant_id = $1 AND card_id = $3", FIRST, THIRD, f"card_{FIRST}_0"
    )


async def lose_a_request(system: System) -> None:
    await system.sql("DELETE FROM requests WHERE tenant_id = $1 AND request_id = 'req-12'", SECOND)


async def rename_a_request(system: System) -> None:
    await system.sql("UPDATE requests SET request_id = 'nobody' WHERE request_id = 'req-12'")


async def move_the_position_back(system: System) -> None:
    await system.sql(
        "UPDATE positions SET (epoch, seq, checksum) = (SELECT epoch, seq, checksum FROM journal_entries"
        " WHERE partition_id = 1 AND seq = positions.seq - 1) WHERE partition_id = 1"
    )


async def move_the_position_ahead(system: System) -> None:
    await system.sql("UPDATE positions SET seq = seq + 5 WHERE partition_id = 1")


async def swap_two_archived_entries(system: System) -> None:
    await system.sql("UPDATE journal_entries SET seq = 1000 WHERE partition_id = 1 AND seq = 5")
    await system.sql("UPDATE journal_entries SET seq = 5 WHERE partition_id = 1 AND seq = 6")
    await system.sql("UPDATE journal_entries SET seq = 6 WHERE partition_id = 1 AND seq = 1000")


async def flip_an_archived_byte(system: System) -> None:
    await system.sql(
        "UPDATE journal_entries SET payload = set_byte(payload, 20, get_byte(payload, 20) # 1)"
        " WHERE partition_id = 1 AND seq = 4"
    )


async def lose_an_archived_entry(system: System) -> None:
    await system.sql("DELETE FROM journal_entries WHERE partition_id = 1 AND seq = 7")


async def change_the_archived_epoch(system: System) -> None:
    await system.sql("UPDATE journal_entries SET epoch = epoch + 1 WHERE partition_id = 1 AND seq = 3")


async def lose_the_stream(system: System) -> None:
    assert await system.redis.delete(JOURNAL)


async def cut_the_streams_tail(system: System) -> None:
    (last,) = await system.redis.xrevrange(JOURNAL, count=1)
    assert await system.redis.xdel(JOURNAL, last[0])


async def alter_the_stream(system: System) -> None:
    """Another payload under the same id: the whole stream is written anew, as an operator with redis-cli could."""
    rows = await system.redis.xrange(JOURNAL)
    await system.redis.delete(JOURNAL)
    for entry_id, fields in rows:
        await system.redis.xadd(JOURNAL, {**fields, b"f": fields[b"f"] + b"x"}, id=entry_id)


async def append_past_the_fence(system: System) -> None:
    (last,) = await system.redis.xrevrange(JOURNAL, count=1)
    epoch, _, seq = last[0].partition(b"-")
    entry = sealed(last[1][b"c"], int(epoch) - 1, int(seq) + 1, 1, b"\x90")
    fields = {"v": 1, "t": 1, "c": entry.checksum, "f": entry.payload}
    await system.redis.xadd(JOURNAL, fields, id=f"{int(epoch)}-{int(seq) + 1}")


async def change_a_board_score(system: System) -> None:
    await system.sql("UPDATE cards SET earned = earned + 5 WHERE card_id = $1", f"card_{FIRST}_1")


async def change_a_day_score(system: System) -> None:
    await system.sql("UPDATE day_scores SET earned = earned - 5 WHERE card_id = $1", f"card_{SECOND}_0")


async def change_when_a_day_score_was_reached(system: System) -> None:
    await system.sql("UPDATE day_scores SET position = position - 1 WHERE card_id = $1", f"card_{SECOND}_0")


async def change_who_was_first(system: System) -> None:
    await system.sql("UPDATE attendance SET earned_position = 1 WHERE card_id = $1", f"card_{SECOND}_1")


async def forget_an_attendance(system: System) -> None:
    await system.sql("DELETE FROM attendance WHERE card_id = $1", f"card_{FIRST}_1")


async def change_a_lot(system: System) -> None:
    await system.sql(
        "UPDATE lots SET remaining = remaining + 1 WHERE tenant_id = $1 AND card_id = $2", FIRST, f"card_{FIRST}_0"
    )


async def resume_a_suspended_card(system: System) -> None:
    await system.sql("UPDATE cards SET state = 'active' WHERE state = 'suspended' AND tenant_id = $1", FIRST)


async def change_the_rules(system: System) -> None:
    await system.sql("UPDATE tenants SET settings = jsonb_set(settings, '{1}', '9999') WHERE tenant_id = $1", FIRST)


async def lower_a_count_of_cards(system: System) -> None:
    await system.sql("UPDATE tenants SET cards = cards - 1 WHERE tenant_id = $1", FIRST)


async def revoke_a_card_in_the_rows(system: System) -> None:
    await system.sql("UPDATE cards SET state = 'revoked' WHERE card_id = $1", f"card_{SECOND}_0")


async def change_the_terms(system: System) -> None:
    await system.sql("UPDATE events SET capacity = 1000000 WHERE event_id = $1", f"evt_{SECOND}")


async def name_another_tenants_event(system: System) -> None:
    await system.sql(
        "INSERT INTO devices (tenant_id, device_id, event_id, name, token_hash, created_at_ms)"
        " VALUES ($1, 'dev_1', $2, 'x', '\\x00', 1)",
        FIRST,
        f"evt_{THIRD}",
    )


async def let_memory_differ(system: System) -> None:
    seq, digests = system.live.by_partition[1]
    system.live.by_partition[1] = (seq, {**digests, f"card_{FIRST}_0": bytes(16)})


async def remember_a_card_that_never_was(system: System) -> None:
    seq, digests = system.live.by_partition[1]
    system.live.by_partition[1] = (seq, {**digests, "card_dreamt": bytes(16)})


async def halt_the_partition(system: System) -> None:
    del system.live.by_partition[1]


PLANTED: dict[Plant, str] = {
    lose_a_ledger_row: "ledger_rows",
    change_a_balance: "cards_rows",
    change_an_amount: "ledger_rows",
    lower_a_count: "events_rows",
    raise_the_refused: "postgres_state",
    duplicate_a_scan: "scans_rows",
    lose_a_scan: "scans_rows",
    give_a_scan_to_another_tenant: "tenants_apart",
    lose_a_request: "requests_rows",
    rename_a_request: "requests_rows",
    move_the_position_back: "journal_position",
    move_the_position_ahead: "journal_position",
    swap_two_archived_entries: "journal_chain",
    flip_an_archived_byte: "journal_chain",
    lose_an_archived_entry: "journal_chain",
    change_the_archived_epoch: "journal_chain",
    lose_the_stream: "journal_stream",
    cut_the_streams_tail: "journal_stream",
    alter_the_stream: "journal_stream",
    append_past_the_fence: "journal_stream",
    change_a_board_score: "leaderboards",
    change_a_day_score: "leaderboards",
    change_when_a_day_score_was_reached: "day_scores_rows",
    change_who_was_first: "leaderboards",
    forget_an_attendance: "attendance_rows",
    change_a_lot: "lots_rows",
    put_an_alarm_off: "alarms_rows",
    move_people_between_zones: "event_zones_rows",
    take_a_card_off_the_list: "admission_list_rows",
    lose_an_annulment: "annulments_rows",
    change_an_answer: "answers_rows",
    hide_a_conflict: "scans_rows",
    change_a_wallet: "cards_rows",
    change_an_account: "double_entry",
    forget_an_account: "tenant_accounts_rows",
    open_a_hold_again: "holds_rows",
    wind_a_tag_back: "tags_rows",
    give_an_old_credential_back: "postgres_state",
    forget_visits: "cards_rows",
    put_a_schedule_off: "rule_schedules_rows",
    forget_a_profile: "cards_rows",
    rewrite_a_rule: "rules_rows",
    lose_a_version_of_a_rule: "rule_versions_rows",
    refill_a_budget: "rule_points_rows",
    forgive_a_rule: "rule_failures_rows",
    forget_a_use_of_a_rule: "rule_uses_rows",
    change_what_was_earned_on_a_day: "earned_days_rows",
    lose_a_change_of_tier: "tier_changes_rows",
    resume_a_suspended_card: "postgres_state",
    change_the_rules: "tenants_rows",
    lower_a_count_of_cards: "tenants_rows",
    revoke_a_card_in_the_rows: "plans",
    change_the_terms: "events_rows",
    name_another_tenants_event: "tenants_apart",
    let_memory_differ: "live_state",
    remember_a_card_that_never_was: "live_state",
    halt_the_partition: "live_state",
    **ROW_FAULTS,
}
