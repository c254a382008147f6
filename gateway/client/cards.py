"""Cards, their credentials and their points. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from gateway.client.batches import in_batches
from gateway.client.caller import Noun, Tagged, Time, given, path
from gateway.client.errors import Json

CARDS = "/v1/cards"
BATCHES = "/v1/cards/batches"
Account = Literal["points", "wallet"]


class Cards(Noun):
    """Cards of the caller's organisation."""

    async def issue(
        self,
        *,
        member_id: str | None = None,
        member: Mapping[str, str] | None = None,
        tier: str | None = None,
        valid_from: Time = None,
        valid_until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A card for a member there is (`member_id`) or a new one (`member`: name, email, phone)."""
        body = given(member_id=member_id, member=member, tier=tier, valid_from=valid_from, valid_until=valid_until)
        return await self._post(CARDS, body, idempotency_key)

    async def issue_many(self, items: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Any number of cards: each item has the fields of `issue`, and a `request_id` if it is to be found again. The
        results, in the order of the items: `{"request_id", "status", "card", "problem"}`. Items that find the system
        busy are asked for again."""
        named = [{"request_id": self._caller.new_id(), **given(**item)} for item in items]
        return await in_batches(self._caller, CARDS + ":batch", named, "request_id")

    async def start_batch(
        self,
        *,
        member_ids: Sequence[str] | None = None,
        members: Mapping[str, Any] | None = None,
        tier: str | None = None,
        valid_from: Time = None,
        valid_until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Issues up to 100,000 cards in the background, to `member_ids` or to all that `members` chooses (`consent`,
        `created_since`, `created_until`, `attributes`, `has_card`)."""
        chosen = None if members is None else given(**members)
        body = given(member_ids=member_ids, members=chosen, tier=tier, valid_from=valid_from, valid_until=valid_until)
        return await self._post(BATCHES, body, idempotency_key)

    async def start_batch_from_csv(
        self, csv: bytes, *, tier: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """The same for the members of a file; `tier` is for rows that tell none."""
        started: Json = await self._caller.request(
            "POST",
            CARDS + ":csv",
            content=csv,
            params={"tier": tier},
            headers={"content-type": "text/csv"},
            idempotency_key=idempotency_key,
        )
        return started

    async def change_many(
        self,
        act: Literal["suspend", "resume", "revoke", "reissue", "renew"],
        *,
        card_ids: Sequence[str] | None = None,
        cards: Mapping[str, Any] | None = None,
        valid_from: Time = None,
        valid_until: Time = None,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Changes many cards in the background: `card_ids`, or all that `cards` chooses (`state`, `tier`,
        `issued_since`, `issued_until`, `expires_before`, `batch_id`)."""
        chosen = None if cards is None else given(**cards)
        body = given(
            act=act, card_ids=card_ids, cards=chosen, valid_from=valid_from, valid_until=valid_until, note=note
        )
        return await self._post(CARDS + ":change", body, idempotency_key)

    async def get_batch(self, batch_id: str) -> Json:
        """How far a batch is."""
        return await self._get(path(BATCHES, batch_id))

    async def cancel_batch(self, batch_id: str, *, idempotency_key: str | None = None) -> Json:
        """Stops a batch; what is done stays."""
        return await self._post(path(BATCHES, batch_id, "cancel"), None, idempotency_key)

    def batch_result(self, batch_id: str) -> AsyncIterator[Json]:
        """Its cards with `number` and `credential`, for the printer."""
        return self._caller.lines(path(BATCHES, batch_id, "result"))

    def batch_report(self, batch_id: str) -> AsyncIterator[Json]:
        """Its rows that failed: `row`, `id`, `column`, `code`, `reason`."""
        return self._caller.lines(path(BATCHES, batch_id, "report"))

    async def get(self, card_id: str) -> Tagged:
        """A card."""
        return await self._get(path(CARDS, card_id))

    def all(self, *, member_id: str | None = None, number: str | None = None) -> AsyncIterator[Json]:
        """All of them, a member's, or the one with this number."""
        return self._caller.items(CARDS, member_id=member_id, number=number)

    async def revocations(self, since: str | None = None) -> Json:
        """Which `cards` may not be let in. With `since`, an earlier `cursor`, what has changed after it: `cards`, and
        those that may again be let in (`restored`); with `reset` it is all of them, and what was known is to be
        forgotten. `serials`: credentials of these cards are dead if their serial is lower. `stale`: what was
        just confirmed may be missing. The socket's `resume` takes the `cursor`, too."""
        may_enter: dict[str, bool] = {}
        serials: dict[str, int] = {}
        is_reset = False
        while True:
            page = await self._get(CARDS + "/revocations", since=since)
            if page["reset"]:
                is_reset = True
                may_enter.clear()
                serials.clear()
            may_enter |= dict.fromkeys(page["cards"], False) | dict.fromkeys(page["restored"], True)
            serials |= page["serials"]
            since = page["cursor"]
            if not page["more"]:
                break
        return {
            "cards": [card_id for card_id, may in may_enter.items() if not may],
            "restored": [card_id for card_id, may in may_enter.items() if may],
            "serials": serials,
            "cursor": since,
            "reset": is_reset,
            "stale": page["stale"],
        }

    async def note(self, card_id: str, attention: str, *, idempotency_key: str | None = None) -> Json:
        """What the staff at a door are told when the card is scanned; "" for nothing."""
        return await self._post(path(CARDS, card_id, "attention"), {"attention": attention}, idempotency_key)

    async def suspend(self, card_id: str, *, note: str | None = None, idempotency_key: str | None = None) -> Json:
        """Refuses its scans until it is resumed."""
        return await self._post(path(CARDS, card_id, "suspend"), given(note=note), idempotency_key)

    async def resume(self, card_id: str, *, note: str | None = None, idempotency_key: str | None = None) -> Json:
        """Ends a suspension."""
        return await self._post(path(CARDS, card_id, "resume"), given(note=note), idempotency_key)

    async def revoke(self, card_id: str, *, note: str | None = None, idempotency_key: str | None = None) -> Json:
        """Refuses its scans for good."""
        return await self._post(path(CARDS, card_id, "revoke"), given(note=note), idempotency_key)

    async def reissue(self, card_id: str, *, note: str | None = None, idempotency_key: str | None = None) -> Json:
        """Gives it a new `credential`; every earlier one is dead at once."""
        return await self._post(path(CARDS, card_id, "reissue"), given(note=note), idempotency_key)

    async def renew(
        self, card_id: str, *, valid_from: Time = None, valid_until: Time = None, idempotency_key: str | None = None
    ) -> Json:
        """Sets its validity; what is left out is no bound. Its credential is to be fetched again."""
        body = given(valid_from=valid_from, valid_until=valid_until)
        return await self._post(path(CARDS, card_id, "renew"), body, idempotency_key)

    async def tier(self, card_id: str) -> Json:
        """Its tier, the points that count, the next level and what is missing, and how it came there."""
        return await self._get(path(CARDS, card_id, "tier"))

    async def set_tier(
        self,
        card_id: str,
        tier: str,
        *,
        note: str | None = None,
        until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Puts it into a tier; with `until` nothing else moves it before that."""
        body = given(tier=tier, note=note, until=until)
        return await self._post(path(CARDS, card_id, "tier"), body, idempotency_key)

    async def assign_tag(self, card_id: str, uid: str, *, idempotency_key: str | None = None) -> Json:
        """Gives it the NFC tag with this UID (14 hexadecimal digits)."""
        return await self._put(path(CARDS, card_id, "tag"), {"uid": uid}, idempotency_key)

    async def remove_tag(self, card_id: str) -> None:
        """Takes its NFC tag from it."""
        await self._delete(path(CARDS, card_id, "tag"))

    async def tag_keys(self, card_id: str) -> Json:
        """The keys to write into its NFC tag."""
        return await self._get(path(CARDS, card_id, "tag", "keys"))

    async def credential(self, card_id: str) -> str:
        """The text of its QR code."""
        credential: str = (await self._get(path(CARDS, card_id, "credential")))["credential"]
        return credential

    async def credential_file(
        self, card_id: str, format: Literal["text", "png", "svg", "ndef"], *, rotating: bool = False
    ) -> bytes:
        """The QR code as text or picture, or an NFC tag's message; with `rotating` the code of now, good for half a
        minute."""
        params = {"format": format, "rotating": "true" if rotating else None}
        answer = await self._caller.exchange(
            "GET", path(CARDS, card_id, "credential"), params=params, headers={"accept": "*/*"}
        )
        return answer.content

    async def rotating_credential(self, card_id: str, *, ahead: int | None = None) -> Json:
        """For a phone: `credential` is the text of now, for `changes_in_ms` more. It is `base` and the first of
        `codes`; the others are those of the `ahead` steps after it, up to an hour's, for when there is no network."""
        return await self._get(path(CARDS, card_id, "credential"), format="rotating", ahead=ahead)

    async def balance(self, card_id: str, *, at: Time = None) -> Json:
        """Its points and its wallet; with `at`, what it had then."""
        return await self._get(path(CARDS, card_id, "balance"), **given(at=at))

    def ledger(
        self,
        card_id: str,
        *,
        account: Account | None = None,
        kind: str | None = None,
        since: Time = None,
        until: Time = None,
    ) -> AsyncIterator[Json]:
        """The entries of its ledger, newest first; of one account or kind, from `since` until before `until`."""
        which = {"account": account, "kind": kind, "from": since, "until": until}
        return self._caller.items(path(CARDS, card_id, "ledger"), **given(**which))

    async def statement(self, card_id: str, since: Time, until: Time, *, account: Account | None = None) -> Json:
        """What an account had at `since`, what came and went, and what it had at `until`."""
        which = {"from": since, "until": until, "account": account}
        return await self._get(path(CARDS, card_id, "statement"), **given(**which))

    async def award(
        self,
        card_id: str,
        amount: int,
        *,
        note: str | None = None,
        expires_at: Time = None,
        pending: bool | None = None,
        pending_until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Gives points. They cannot be spent before `pending_until`; with `pending`, until they are confirmed."""
        body = given(amount=amount, note=note, expires_at=expires_at, pending=pending, pending_until=pending_until)
        return await self._move(card_id, "points/award", body, idempotency_key)

    async def redeem(
        self, card_id: str, amount: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Takes points."""
        return await self._move(card_id, "points/redeem", given(amount=amount, note=note), idempotency_key)

    async def reverse(
        self, card_id: str, entry_seq: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Undoes an entry of the ledger."""
        return await self._move(card_id, "points/reverse", given(entry_seq=entry_seq, note=note), idempotency_key)

    async def confirm(
        self, card_id: str, entry_seq: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """The pending points of an award can be spent from now on."""
        return await self._move(card_id, "points/confirm", given(entry_seq=entry_seq, note=note), idempotency_key)

    async def hold(
        self,
        card_id: str,
        amount: int,
        *,
        account: Account | None = None,
        lapses_at: Time = None,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Puts points or money aside; the answer's `entry.seq` is what `capture` and `release` cite."""
        body = given(amount=amount, account=account, lapses_at=lapses_at, note=note)
        return await self._move(card_id, "points/hold", body, idempotency_key)

    async def capture(
        self,
        card_id: str,
        entry_seq: int,
        *,
        amount: int | None = None,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Takes what a hold put aside, or `amount` of it; the rest is let go."""
        body = given(entry_seq=entry_seq, amount=amount, note=note)
        return await self._move(card_id, "points/capture", body, idempotency_key)

    async def release(
        self, card_id: str, entry_seq: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Lets go what a hold put aside."""
        return await self._move(card_id, "points/release", given(entry_seq=entry_seq, note=note), idempotency_key)

    async def transfer(
        self,
        card_id: str,
        to_card_id: str,
        amount: int,
        *,
        account: Account | None = None,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Gives points or money to another card of the organisation."""
        body = given(to_card_id=to_card_id, amount=amount, account=account, note=note)
        return await self._move(card_id, "points/transfer", body, idempotency_key)

    async def top_up(
        self, card_id: str, amount: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Puts money into the wallet."""
        return await self._move(card_id, "wallet/top-up", given(amount=amount, note=note), idempotency_key)

    async def pay(
        self, card_id: str, amount: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Takes money from the wallet."""
        return await self._move(card_id, "wallet/pay", given(amount=amount, note=note), idempotency_key)

    async def _move(self, card_id: str, verb: str, body: Json, idempotency_key: str | None) -> Json:
        return await self._post(path(CARDS, card_id, *verb.split("/")), body, idempotency_key)
