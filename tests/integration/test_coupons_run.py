"""Coupons on a running system, over two gateways: ten uses and one code, each wanted two hundred times at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from gateway.client import ApiError, AsyncMasterVip
from tests.integration.conftest import SeededSystem

AT_ONCE = 200
USES = 10
TEA = {"type": "item", "text": "A tea"}


async def told(vip: AsyncMasterVip, code: str, card_id: str) -> str:
    """What comes of a redemption."""
    try:
        answer: dict[str, Any] = await vip.coupons.redeem(code, card_id)
    except ApiError as refusal:
        return refusal.code
    return str(answer["state"])


async def test_limits_hold_on_a_running_system(seeded_system: SeededSystem) -> None:
    fixtures = seeded_system.fixtures
    cards = [card["id"] for card in fixtures["cards"]]
    wanted = [cards[number % len(cards)] for number in range(AT_ONCE)]
    async with AsyncMasterVip(seeded_system.base_url, fixtures["api_key"]) as vip:
        coupon = await vip.coupons.define("Ten", TEA, limit_in_all=USES, shared_code="TENUSES")
        outcomes = Counter(await asyncio.gather(*(told(vip, "TENUSES", card_id) for card_id in wanted)))
        assert outcomes == {"redeemed": USES, "coupon_limit_reached": AT_ONCE - USES}
        seen = await vip.coupons.get(coupon["id"])
        assert (seen["redeemed"], seen["on_hold"]) == (USES, 0)
        issued = await vip.coupons.issue((await vip.coupons.define("One", TEA))["id"], count=1)
        code = issued["items"][0]["code"]
        outcomes = Counter(await asyncio.gather(*(told(vip, code, card_id) for card_id in wanted)))
        assert outcomes == {"redeemed": 1, "coupon_already_used": AT_ONCE - 1}
