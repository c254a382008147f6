"""Which decision a command leads to, and which actors it needs. Check-ins, which are nearly all there is, and the
opening of an organisation have a way of their own in `actors.judge`.

Rules:
1. `needs` are the kinds of the actors that the command names by `<kind>_id` and that must exist; all that are missing
   are loaded at once. The tenant is always needed.
2. Commands with the same `key` keep their order while some of them wait.
3. A decision reads its scope and nothing else; it gives facts, a refusal being one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from actors.admin import (
    decide_change_card_state,
    decide_change_event,
    decide_change_plan,
    decide_change_tenant,
    decide_create_event,
    decide_issue_card,
    decide_rename_card_holder,
    decide_set_tiers,
)
from actors.birthdays import decide_describe_card_holder
from actors.card_commands import AssignTag, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.card_life import (
    decide_assign_tag,
    decide_reissue_card,
    decide_remove_tag,
    decide_renew_card,
    decide_set_card_tier,
)
from actors.commands import (
    AwardPoints,
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CheckIn,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RedeemPoints,
    RenameCardHolder,
    ReversePoints,
    Wake,
    tapped,
)
from actors.coupon_commands import (
    CaptureCoupon,
    ChangeCoupon,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_redemptions import (
    decide_capture_coupon,
    decide_redeem_coupon,
    decide_release_coupon,
    decide_rollback_coupon,
    decide_wake_coupon,
)
from actors.coupons import decide_change_coupon, decide_define_coupon, decide_issue_coupons
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from actors.doors import (
    decide_annul,
    decide_answer,
    decide_change_admission_list,
    decide_note_card,
    decide_send_out,
    decide_wake_event,
)
from actors.facts import Fact
from actors.holds import decide_capture, decide_hold, decide_release
from actors.member_commands import DescribeCardHolder
from actors.points import decide_award, decide_confirm, decide_redeem, decide_reverse, decide_wake_card
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.rounds import decide_wake_tenant
from actors.rule_admin import decide_delete_rule, decide_save_rule
from actors.rule_commands import DeleteRule, SaveRule
from actors.scope import Scope
from actors.tier_commands import SetTiers
from actors.transfers import decide_transfer

# What a decision is given: its scope, the command, and the time.
Decision = Callable[[Scope, Any, int], list[Fact]]


class Handler(NamedTuple):
    """See the module's rules."""

    key: str
    needs: tuple[str, ...]
    decide: Decision


# What a kind of actor does when its alarm rings.
WAKINGS: dict[str, Callable[[Scope, Any, int], list[Fact]]] = {
    "card": decide_wake_card,
    "event": decide_wake_event,
    "coupon": decide_wake_coupon,
    "tenant": decide_wake_tenant,
}


def _wake(scope: Scope, command: Wake, at_ms: int) -> list[Fact]:
    actor = scope.find(command.kind, command.entity_id)
    return [] if actor is None else WAKINGS[command.kind](scope, actor, at_ms)


HANDLERS: dict[type, Handler] = {
    ChangeTenant: Handler("tenant_id", (), decide_change_tenant),
    SetTiers: Handler("tenant_id", (), decide_set_tiers),
    ChangePlan: Handler("tenant_id", (), decide_change_plan),
    IssueCard: Handler("card_id", (), decide_issue_card),
    ChangeCardState: Handler("card_id", ("card",), decide_change_card_state),
    RenameCardHolder: Handler("card_id", ("card",), decide_rename_card_holder),
    DescribeCardHolder: Handler("card_id", ("card",), decide_describe_card_holder),
    CreateEvent: Handler("event_id", (), decide_create_event),
    ChangeEvent: Handler("event_id", ("event",), decide_change_event),
    AwardPoints: Handler("card_id", ("card",), decide_award),
    RedeemPoints: Handler("card_id", ("card",), decide_redeem),
    ReversePoints: Handler("card_id", ("card",), decide_reverse),
    AnnulScan: Handler("event_id", ("event",), decide_annul),
    SendOut: Handler("event_id", ("event",), decide_send_out),
    ChangeAdmissionList: Handler("event_id", ("event",), decide_change_admission_list),
    AnswerQuestions: Handler("card_id", ("card", "event"), decide_answer),
    NoteCard: Handler("card_id", ("card",), decide_note_card),
    ConfirmPoints: Handler("card_id", ("card",), decide_confirm),
    HoldPoints: Handler("card_id", ("card",), decide_hold),
    CapturePoints: Handler("card_id", ("card",), decide_capture),
    ReleasePoints: Handler("card_id", ("card",), decide_release),
    TransferPoints: Handler("card_id", ("card",), decide_transfer),
    ReissueCard: Handler("card_id", ("card",), decide_reissue_card),
    RenewCard: Handler("card_id", ("card",), decide_renew_card),
    SetCardTier: Handler("card_id", ("card",), decide_set_card_tier),
    AssignTag: Handler("card_id", ("card",), decide_assign_tag),
    RemoveTag: Handler("card_id", ("card",), decide_remove_tag),
    SaveRule: Handler("tenant_id", (), decide_save_rule),
    DeleteRule: Handler("tenant_id", (), decide_delete_rule),
    Wake: Handler("entity_id", (), _wake),
    DefineCoupon: Handler("coupon_id", (), decide_define_coupon),
    ChangeCoupon: Handler("coupon_id", ("coupon",), decide_change_coupon),
    IssueCoupons: Handler("coupon_id", ("coupon",), decide_issue_coupons),
    RedeemCoupon: Handler("card_id", ("code", "card"), decide_redeem_coupon),
    CaptureCoupon: Handler("redemption_id", ("redemption",), decide_capture_coupon),
    ReleaseCoupon: Handler("redemption_id", ("redemption",), decide_release_coupon),
    RollbackCoupon: Handler("redemption_id", ("redemption",), decide_rollback_coupon),
}


def order_key(command: Command) -> str:
    """The actor whose commands keep their order while some of them wait."""
    if isinstance(command, CheckIn):
        return command.card_id or tapped(command.tag_uid)
    if isinstance(command, OpenTenant):
        return command.tenant_id
    return str(getattr(command, HANDLERS[type(command)].key))


def handle(scope: Scope, command: Command, at_ms: int) -> list[Fact]:
    """The facts that a command leads to. Raises `actors.scope.NotLoaded` and `actors.scope.Unknown`."""
    handler = HANDLERS[type(command)]
    scope.gather(("tenant", *handler.needs), command)
    return handler.decide(scope, command, at_ms)
