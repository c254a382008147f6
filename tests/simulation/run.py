"""One seed from start to end, and a command to run it again: `python -m tests.simulation.run --seed N --trace`.

A run founds two tenants, lets clients ask while faults strike, then heals: every fault ends, everything has to be
answered and to converge, and the audit compares all that there is.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import msgspec

from actors import admin, doors, live, live_sources, rounds
from actors.codec import decode_facts
from actors.commands import Command
from actors.digests import digest_of
from actors.effects import Halted
from actors.entry import EMPTY_PAYLOAD, sealed
from actors.ids import position_of
from actors.limits import Limits
from actors.partition import Partition
from actors.replies import EventFeed
from actors.residents import Residents
from tests.simulation.checker import Checker, check
from tests.simulation.clients import Client, founding_commands
from tests.simulation.hosts import HostModel, Supervisor, Trouble
from tests.simulation.journal_model import JournalModel
from tests.simulation.oracle import FREE_CARDS
from tests.simulation.oracle_doors import ANNUL_MS
from tests.simulation.oracle_schedules import STEP_CARDS, STEP_FACTS
from tests.simulation.postgres_model import CLOCK_AHEAD_MS_MAX, PostgresModel, Projector
from tests.simulation.world import START_MS, Faults, Violation, World

ACTIVE_MS = 5_000
HEAL_MS = 30_000
BELATED_MS = 1_500
CLIENTS = 4
COMMANDS_PER_CLIENT = 64


@dataclass
class Parts:
    """What a run is made of; a search for something rare changes these."""

    faults: Faults | None = None
    limits: dict[str, int] = field(default_factory=dict)
    make_partition: Callable[[int, Limits], Partition] = Partition
    make_journal: Callable[..., JournalModel] = JournalModel
    make_postgres: Callable[[World], PostgresModel] = PostgresModel
    make_projector: Callable[..., Projector] = Projector


class Failure(Exception):
    """A seed failed; the message tells how to see it again."""


def small_limits(world: World) -> Limits:
    """Limits that are met all the time."""
    rng = world.rng
    wait_ms, timeout_ms = rng.choice((100, 300)), rng.choice((50, 150))
    return Limits(
        mailbox_messages_max=rng.choice((3, 8, 40)),
        appends_in_flight_max=rng.randint(1, 3),
        entry_bytes_target=rng.choice((500, 2_500, 14_000)),
        journal_bytes_max=rng.choice((1_500, 4_000, 1_000_000)),
        requests_remembered_max=rng.choice((0, 4, 30)),
        memory_ms_min=2 * (wait_ms + timeout_ms),
        wait_ms_max=wait_ms,
        load_timeout_ms=timeout_ms,
        load_retry_ms=20,
        cards_resident_max=rng.choice((0, 2, 100)),
        events_resident_max=rng.choice((0, 1, 100)),
        boards_resident_max=rng.choice((0, 1, 100)),
        others_resident_max=rng.choice((0, 1, 3, 100)),
        alarms_interval_ms=rng.choice((50, 400)),
        alarms_per_look_max=rng.choice((1, 500)),
        clock_ahead_ms_max=CLOCK_AHEAD_MS_MAX,
    )


@contextmanager
def small_world() -> Iterator[None]:
    """Live topics are published, left and put away, and plans used up, in the time that a run has."""
    smaller = {
        live: {"WATCHED_MS": 300, "PUBLISH_INTERVAL_MS": 20, "UPDATES_KEPT": 4, "TIDY_INTERVAL_MS": 25},
        live_sources: {"CHANGES_PER_UPDATE_MAX": 2, "CHANGES_WAITING_MAX": 3},
        admin: {"CARDS_PER_FREE_TENANT_MAX": FREE_CARDS},
        doors: {"ANNUL_MS_MAX": ANNUL_MS},
        rounds: {"CARDS_PER_STEP_MAX": STEP_CARDS, "FACTS_PER_STEP_MAX": STEP_FACTS},
    }
    with ExitStack() as changed:
        for module, values in smaller.items():
            for name, value in values.items():
                changed.enter_context(patch.object(module, name, value))
        yield


class Run:
    """One seed."""

    def __init__(self, seed: int, parts: Parts | None = None, *, trace: bool = False) -> None:
        parts = parts or Parts()
        self.world = world = World(seed, trace=trace)
        world.faults = parts.faults or world.faults
        limits = msgspec.structs.replace(small_limits(world), **parts.limits)
        self.checker = Checker(world)
        self.checker.mailbox_max = limits.mailbox_messages_max
        self.journal = parts.make_journal(world, self.checker.on_written)
        self.postgres = parts.make_postgres(world)
        self.hosts = [
            HostModel(f"host{n}", world, self.journal, self.postgres, limits, self.checker, parts.make_partition)
            for n in range(world.rng.choice((2, 2, 3)))
        ]
        self.supervisor = Supervisor(world, self.hosts)
        self.clients = [
            Client(n, world, self.checker, self.hosts, self.supervisor, clock_ahead_ms=limits.clock_ahead_ms_max)
            for n in range(CLIENTS)
        ]
        self._limits = limits
        self._busy = CLIENTS
        self._project = parts.make_projector

    def run(self) -> Counter[str]:
        """Runs the seed; raises `Violation`, or whatever the production code raises."""
        world = self.world
        self.supervisor.start()
        self._project(world, self.journal, self.postgres).start()
        if world.rng.random() < 0.3:
            self._project(world, self.journal, self.postgres).start()
        Trouble(world, self.hosts, self.journal, self.postgres, START_MS + ACTIVE_MS).start()
        self._found(founding_commands(self.clients[0]))
        world.run(START_MS + ACTIVE_MS)
        world.heal()
        if world.rng.random() < 0.1 and self.postgres.position.seq < self.journal.tail.seq:
            self._damage()
        else:
            end_ms = START_MS + ACTIVE_MS + HEAL_MS
            world.run(end_ms, self._is_quiet)
            # Belated copies are still on their way.
            world.run(world.now_ms + BELATED_MS)
            world.run(end_ms + BELATED_MS, self._is_quiet)
            self._audit()
        return world.seen

    def _found(self, founding: list[Command]) -> None:
        """One after the other: nothing is asked of what does not exist yet."""
        if founding:
            self.clients[0].ask(founding[0], lambda: self._found(founding[1:]))
            return
        for client in self.clients:
            client.start(COMMANDS_PER_CLIENT, self._finished)

    def _finished(self) -> None:
        self._busy -= 1

    def _is_quiet(self) -> bool:
        partition = self.supervisor.owner.life.partition
        return (
            self._busy == 0
            and all(client.is_done for client in self.clients)
            and self.postgres.position == self.journal.tail
            and partition.state == "open"
            # An alarm may ring at any time.
            and partition.last == partition.durable
            and not any(host.is_paused for host in self.hosts)
        )

    # --- damage -----------------------------------------------------------------------------------------------------

    def _damage(self) -> None:
        """An entry that Postgres does not hold is altered, or one before the last is lost: whoever opens must halt.
        (That the very last is gone only those know who saw it durable.)"""
        rng, position = self.world.rng, self.postgres.position
        tail = self.journal.tail
        opening = sealed(tail.checksum, tail.epoch + 1, tail.seq + 1, self.world.now_ms, EMPTY_PAYLOAD)
        entries = [*self.journal.archive[position.seq :], opening]
        if rng.random() < 0.5:
            at = rng.randrange(len(entries))
            payload = bytearray(entries[at].payload)
            payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
            entries[at] = msgspec.structs.replace(entries[at], payload=bytes(payload))
        else:
            entries.pop(rng.randrange(len(entries) - 1))
        partition = self.hosts[0].make_partition(0, self._limits)
        partition.open(self.world.now_ms)
        effects = partition.on_opened(1, opening, position, entries, {}, self.world.now_ms)
        check(partition.state == "halted", "12: a damaged journal was opened")
        check(any(isinstance(effect, Halted) for effect in effects), "12: nobody was told of the halt")
        self.world.note("halt")

    # --- the end ----------------------------------------------------------------------------------------------------

    def _audit(self) -> None:
        for client in self.clients:
            check(client.is_done, f"1: never answered: {[p.message for p in client._open]}")
        check(self._busy == 0, "a client never came to its end")
        check(self.postgres.position == self.journal.tail, "6: the projector never caught up")
        owner = self.supervisor.owner.life
        check(owner.partition.state == "open", f"nobody has the partition: {owner.partition.state}")
        for host in self.hosts:
            for token in host.life.tokens:
                check(token.answered == 1, f"1: {token.message} got {token.answered} replies")
        self._audit_states(owner.partition)
        self._audit_topics()

    def _audit_states(self, partition: Partition) -> None:
        replayed = Residents()
        for entry in self.journal.archive:
            for index, fact in enumerate(decode_facts(entry)):
                replayed.recover(fact, position_of(entry.seq, index))
        postgres = self.postgres
        stored: dict[str, Any] = {t: postgres.load_tenant(t) for t in postgres.tenants}
        stored |= {key[1]: postgres.card(key) for key in postgres.cards}
        stored |= {key[1]: postgres.event(key) for key in postgres.events}
        stored |= {tag.tag_id: tag for tag in map(postgres.tag, postgres.tags)}
        stored |= {key[2]: postgres.coupons.load(*key) for key in postgres.coupons.everything()}
        live = {key: actor for actors in partition.residents.actors.values() for key, actor in actors.items()}
        full = {key: actor for actors in replayed.actors.values() for key, actor in actors.items()}
        check(stored.keys() == full.keys(), "6: Postgres and the journal know different actors")
        for key, actor in full.items():
            check(digest_of(actor) == digest_of(stored[key]), f"8: replay {actor}\n  Postgres {stored[key]}")
            if key in live:
                check(digest_of(actor) == digest_of(live[key]), f"8: replay {actor}\n  live {live[key]}")
        for card_id, card in self.checker.oracle.cards.items():
            found = full[card_id]
            wanted = (card["points"], card["wallet"], card["state"], card["earned"])
            check((found.balance, found.wallet, found.state, found.earned) == wanted, f"8: {found}, oracle {card}")
        for tenant_id in self.checker.oracle.tenants:
            self._audit_accounts(full, tenant_id)
        check(set(self.checker.answers) == set(postgres.requests), "2: requests in Postgres")

    def _audit_accounts(self, full: dict[str, Any], tenant_id: str) -> None:
        """Double entry: what the organisation's accounts gave, its cards have."""
        oracle = self.checker.oracle
        accounts = full[tenant_id].accounts
        wanted = {name: balance for (owner, name), balance in oracle.accounts.items() if owner == tenant_id}
        check(accounts == wanted, f"7: {accounts}, oracle {wanted}")
        has = sum(card["points"] + card["wallet"] for card in oracle.cards.values() if card["tenant"] == tenant_id)
        check(sum(accounts.values()) + has == 0, f"7: cards have {has}, accounts of {tenant_id} say {accounts}")
        for account in ("points:transferred", "wallet:transferred"):
            check(not accounts.get(account, 0), f"10: some of a transfer did not arrive: {accounts}")

    def _audit_topics(self) -> None:
        """Updates of a topic follow each other without a hole, and a subscriber who comes back gets what it missed."""
        for (_, _, topic), log in self.checker.updates.items():
            for offset in sorted(log):
                before = log.get(offset - 1)
                after = log[offset]
                if before is None or not isinstance(after.data, EventFeed):
                    continue
                scans = self.checker.scans[after.data.event_id]
                since = [scan for scan in scans if before.data.position < scan[0] <= after.data.position]
                # Every conflict, and the last of the others.
                last = [name for _, name, conflict in since if not conflict][-20:]
                wanted = [name for _, name, conflict in since if conflict or name in last]
                found = [scan.scan_id for scan in after.data.scans]
                check(found == wanted, f"5: {topic} update {offset} shows {found}, {wanted} came about")
        for token, view in self.checker.topic_views:
            message: Any = token.message
            log = self.checker.updates[view.epoch, message.tenant_id, view.topic]
            if view.recovered:
                offsets = [update.offset for update in view.missed]
                wanted_offsets = list(range(message.since_offset + 1, view.offset + 1))
                check(offsets == wanted_offsets, f"5: since {message.since_offset}: {offsets}, {wanted_offsets} missed")
                for update in view.missed:
                    check(log.get(update.offset, update) == update, f"5: {view.topic} {update.offset} changed")


def run_seed(seed: int, parts: Parts | None = None, *, trace: bool = False) -> Counter[str]:
    """Runs a seed. Raises `Failure` with the seed and the end of its story."""
    run = Run(seed, parts, trace=trace)
    try:
        with small_world():
            return run.run()
    except (Violation, AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        lines = run.world.trace_lines if trace else run.world.trace_lines[-15:]
        story = "\n".join(lines)
        raise Failure(
            f"seed {seed}: {type(error).__name__} at {place.filename.rsplit('/', 1)[-1]}:{place.lineno}: {error}\n"
            f"{story}\n"
            f"again: python -m tests.simulation.run --seed {seed} --trace"
        ) from error


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs seeds of the simulation.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    seen: Counter[str] = Counter()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        try:
            seen += run_seed(seed, trace=arguments.trace)
        except Failure as failure:
            failed += 1
            sys.stdout.write(f"{failure}\n\n")
    for situation, times in sorted(seen.items()):
        sys.stdout.write(f"{times:>8} {situation}\n")
    sys.stdout.write(f"{arguments.count} seeds, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
