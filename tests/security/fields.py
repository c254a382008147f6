"""What the fields of requests mean to the tests: which of them name an object, and what stands in the others.

Rules:
1. Every field of path, query or body that is text and not one of a few fixed words stands in `IDS` (it names an
   object) or in `PLAIN` (it names none). One that is in neither fails the tests by its name: whoever adds a field says
   here what it is, and if it names an object, the tests swap it for a foreign one from then on.
2. An entry of "METHOD /path field" goes before one of "field".
"""

from __future__ import annotations

from typing import Any

from tests.edge.in_process import PASSWORD

# Kind of object by field, and how the id stands in the field where it is not all of it.
IDS: dict[str, str] = {
    "org_id": "org",
    "member_id": "member",
    "card_id": "card",
    "around": "card",
    "credential": "credential",
    "number": "card_number",
    "uid": "new_tag",
    "coupon_id": "coupon",
    "redemption_id": "hold",
    "POST /v1/coupons/redemptions/{redemption_id}/rollback redemption_id": "redemption",
    "POST /v1/coupons/redeem code": "coupon_code",
    "grant_id": "grant",
    "event_id": "event",
    "window": "event",
    "POST /v1/leaderboards/{board}/payout window": "closed_event",
    "GET /v1/leaderboards/{board}/payout window": "paid_event",
    "gate_id": "gate",
    "to_card_id": "other_card",
    "device_id": "device",
    "key_id": "api_key",
    "cursor": "cursor",
    "invitation_id": "invitation",
    "import_id": "import",
    "rule_id": "rule",
    "batch_id": "batch",
    "GET /v1/members email": "member_email",
    "POST /v1/accounts email": "new_email",
    "GET /v1/members external_id": "external_id",
    "DELETE /v1/members/{member_id}/link member_id": "linked_member",
    "POST /v1/invitations/accept token": "invitation_token",
    "actor": "account",
    "target": "card",
    "account_id": "account",
    "session_id": "session",
    "POST /v1/events/{event_id}/checkins/{scan_id}/annul scan_id": "scan",
    "add": "card",
    "remove": "card",
}
TEXT: dict[str, str] = {"window": "event:{}"}

ORG_NAME = "Org"
# What is said where nothing is named. Fields that are not required are left out, unless a body would be empty.
PLAIN: dict[str, Any] = {
    "accent_color": "#00ff00",
    "action": "cards.issue",
    "allowed_origin": "https://vip.example.com",
    "amount": 1,
    "POST /v1/events/{event_id}/answers answer": {"question_id": "q_1", "answer": "nuts"},
    "attention": "Greet by name",
    "choice": "yes",
    "condition": "card.points >= 0",
    "current_password": PASSWORD,
    "bill_id": "till-1",
    "birthday": "1990-02-28",
    "board": "points",
    "capacity": 100,
    "confirm": ORG_NAME,
    "code": "org_none.0123456789",
    "display_name": "High Table",
    "email": "ann@example.com",
    "entry_seq": 1,
    "POST /v1/cards/{card_id}/points/confirm entry_seq": 3,
    "POST /v1/cards/{card_id}/points/capture entry_seq": 4,
    "POST /v1/cards/{card_id}/points/release entry_seq": 4,
    "exit_all_at": "04:00",
    "external_id": "C-1",
    "format": "text",
    "from": "2026-01-01T00:00:00.000Z",
    # A part of the event that is made or changed: of no other.
    "id": "part_1",
    "group": "drinks",
    "locale": "vi-VN",
    "logo_url": "https://vip.example.com/logo.svg",
    "message": "Members only",
    "name": "Ann",
    "new_password": PASSWORD,
    "note": "because",
    "password": PASSWORD,
    "primary_color": "#ff0000",
    "phone": "+84 90 123 45 67",
    # The lowest level of all begins there.
    "PUT /v1/orgs/{org_id}/tiers points": 0,
    "q": "Mel",
    "version": "1",
    "question_id": "q_1",
    "shared_code": "SUMMER26",
    "since": "",
    "reason": "full",
    "refresh_token": "none",
    "request_id": "00000000-0000-7000-8000-000000000000",
    "scan_id": "00000000-0000-7000-8000-000000000000",
    "rule": {"name": "Points", "on": "checkin", "then": [{"action": "award_points", "points": 1}]},
    "schema": {"type": "object", "properties": {}},
    "support_email": "help@example.com",
    "time_zone": "Asia/Ho_Chi_Minh",
    "tag": "jazz",
    "text": "Any allergies?",
    "template_id": "anniversary",
    "token": "none",
    "values": {},
    "zone_id": "zone_1",
    "value": {"type": "item", "text": "A tea"},
}

# Bodies that may be left out, but then something else has to be there.
WITH_BODY = ("POST /v1/members/{member_id}/link",)
# Fields that are left out although they could name an object, with the reason.
LEFT_OUT: dict[str, str] = {
    "POST /v1/events/{event_id}/admission-list remove": "what is not on the list is taken off it without a word",
}


def entry(table: dict[str, Any], operation: str, field: str) -> Any:
    """Rule 2; None where there is none."""
    return table.get(f"{operation} {field}", table.get(field))
