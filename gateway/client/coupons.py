"""Coupons and their codes. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway.client.caller import Noun, Tagged, Time, changed, given, path
from gateway.client.errors import Json

COUPONS = "/v1/coupons"
REDEMPTIONS = COUPONS + "/redemptions"


class Coupons(Noun):
    """Coupons of the caller's organisation."""

    async def define(
        self, name: str, value: Mapping[str, Any], /, *, idempotency_key: str | None = None, **terms: Any
    ) -> Json:
        """A new one, worth e.g. `{"type": "points", "points": 50}`. Terms: `state`, `tiers`, `valid_from`,
        `valid_until`, `valid_days`, `limit_in_all`, `limit_per_card`, `limit_per_day`, `stacking`, `group`,
        `shared_code`."""
        return await self._post(COUPONS, given(name=name, value=value, **terms), idempotency_key)

    async def get(self, coupon_id: str) -> Tagged:
        """A coupon with its counts."""
        return await self._get(path(COUPONS, coupon_id))

    def all(self) -> AsyncIterator[Json]:
        """All of them, oldest first."""
        return self._caller.items(COUPONS)

    async def change(
        self, coupon_id: str, /, *, if_match: str | None = None, idempotency_key: str | None = None, **changes: Any
    ) -> Tagged:
        """Changes what is given: name, value, and the terms of `define` but `shared_code`. `valid_from` and
        `valid_until` may be None: no bound any more."""
        return await self._patch(path(COUPONS, coupon_id), changed(**changes), idempotency_key, if_match)

    async def issue(
        self,
        coupon_id: str,
        *,
        count: int | None = None,
        card_ids: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Up to 1,000 codes: `count` for anybody, or one for each card. Keep the Idempotency-Key to ask for the same
        codes again."""
        body = given(count=count, card_ids=None if card_ids is None else list(card_ids))
        return await self._post(path(COUPONS, coupon_id, "codes"), body, idempotency_key)

    def codes(self, coupon_id: str) -> AsyncIterator[Json]:
        """The codes of a coupon, newest first."""
        return self._caller.items(path(COUPONS, coupon_id, "codes"))

    def redemptions(
        self, coupon_id: str, *, state: str | None = None, card_id: str | None = None
    ) -> AsyncIterator[Json]:
        """The redemptions of a coupon and its holds, newest first; those in a state, those of a card."""
        return self._caller.items(path(COUPONS, coupon_id, "redemptions"), state=state, card_id=card_id)

    def of_card(self, card_id: str) -> AsyncIterator[Json]:
        """The codes that were issued for a card and the coupons that rules granted to it, newest first."""
        return self._caller.items(path("/v1/cards", card_id, "coupons"))

    async def redeem(
        self,
        code: str,
        card_id: str,
        *,
        bill_id: str | None = None,
        hold_until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Redeems a code for a card, or holds it until a time. Its `id` is for what comes after."""
        body = given(code=code, card_id=card_id, bill_id=bill_id, hold_until=hold_until)
        return await self._post(COUPONS + "/redeem", body, idempotency_key)

    async def redeem_granted(
        self,
        card_id: str,
        grant_id: str,
        *,
        bill_id: str | None = None,
        hold_until: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Redeems, or holds, a coupon that a rule granted: by its id among the card's coupons."""
        body = given(bill_id=bill_id, hold_until=hold_until)
        return await self._post(path("/v1/cards", card_id, "coupons", grant_id, "redeem"), body, idempotency_key)

    async def redemption(self, redemption_id: str) -> Json:
        """A redemption as it is now."""
        return await self._get(path(REDEMPTIONS, redemption_id))

    async def capture(self, redemption_id: str, *, idempotency_key: str | None = None) -> Json:
        """A hold becomes a redemption."""
        return await self._post(path(REDEMPTIONS, redemption_id, "capture"), None, idempotency_key)

    async def release(self, redemption_id: str, *, idempotency_key: str | None = None) -> Json:
        """A hold ends without one."""
        return await self._post(path(REDEMPTIONS, redemption_id, "release"), None, idempotency_key)

    async def roll_back(
        self, redemption_id: str, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Takes a redemption back, once."""
        return await self._post(path(REDEMPTIONS, redemption_id, "rollback"), given(note=note), idempotency_key)
