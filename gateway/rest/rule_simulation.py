"""What a draft of a rule would have done, and what that would have cost (`rules.simulate`); nothing happens.

Rules:
1. The draft is looked at beside the organisation's active rules as they are now, instead of the one that it replaces.
2. It has to be one that could be saved and active; what is wrong with it is told as when it is saved.
3. Coupons are granted as if they were active and had uses left: what they would have cost is to be seen, and how many
   there are left now.
4. Without moments that the request makes up it is a span of the past, by default the last
   `limits.SIMULATION_DAYS_DEFAULT` days (`gateway.rule_simulation`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field

from actors.coupon_terms import AmountValue, PointsValue
from actors.queries import GetCoupon, GetRules, GetTenant
from actors.refusals import COUPON_UNKNOWN, LIMIT_REACHED
from actors.replies import CouponView, RulesView, TenantView
from actors.rule_admin import fault_of_granting
from gateway import limits
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339
from gateway.rest.common import Body, Call, Id, Time, View, ms
from gateway.rest.rules import RuleWriter, found_rule, malformed_rule, read_rule
from gateway.rule_simulation import PastOfTenant, Reached, Span, see_all
from gateway.slots import Slots
from rules.document import DocumentError, admission_error
from rules.language import GrantCoupon, RuleDefinition
from rules.moment import Moment
from rules.moment_document import moment_of
from rules.outcome import Effect
from rules.simulate import Example, RuleTotals, Simulation, Simulator

DRAFT_ID = "draft"
DAY_MS = 24 * 3_600_000
YEAR_9999_MS = 253_370_764_800_000  # the calendar ends with it
router = APIRouter(prefix="/v1", tags=["rules"])


class SimulationBody(Body):
    """The draft, and what it is held against: `moments`, each with `at` and the variables of expressions (`card`,
    `counts`, …) that differ from a first visit's, or a span of time. `rule_id` is the saved rule that it is to
    replace."""

    rule: dict[str, Any]
    rule_id: Id | None = None
    since: Annotated[Time | None, Field(alias="from")] = None
    until: Time | None = None
    moments: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=limits.SIMULATION_MOMENTS_MAX)] | None = (
        None
    )


class RuleDayView(View):
    """What a rule would have done on a day of the organisation's time zone."""

    date: str
    applied: int
    points: int
    coupons: int


class SimulatedRuleView(View):
    """What a rule would have done: `applied` so often, to so many cards, with so many effects. `withheld`: its
    condition was true, and a limit or another rule left no room. `failed`: it could not be computed."""

    id: str
    version: int
    is_draft: bool
    applied: int
    cards: int
    effects: int
    points: int
    coupons: int
    withheld: int
    failed: int
    days: list[RuleDayView]


class SimulatedDayView(View):
    """All moments of a day, and what all rules would have done."""

    date: str
    moments: int
    applied: int
    points: int
    coupons: int


class GrantedView(View):
    """How often a coupon would have been granted, and how many more of it can be (null: as many as you like). What that
    costs once all are redeemed: in points, in dong (`vnd`); percentages and items cost what the till says."""

    coupon_id: str
    name: str
    granted: int
    left: int | None
    points: int
    vnd: int


class ExampleView(View):
    """A moment at which the draft would have applied, and what it comes from ("checkin:…", "entry:…"; null for one that
    was made up)."""

    at: str
    card_id: str
    cause: str | None
    effects: list[dict[str, Any]]


class SpanView(View):
    """The span that was asked for. Everything before `read_until` was looked at, `facts` in all; `complete` tells that
    this is the whole span, `stale` that what was just confirmed may be missing."""

    since: Annotated[str, Field(alias="from")]
    until: str
    read_until: str
    complete: bool
    facts: int
    stale: bool


class SimulationView(View):
    """The report, of all rules together and of each that did something. `failures` counts reasons; `examples` are the
    first of the draft. `span` is null for moments that were made up."""

    moments: int
    applied: int
    points: int
    coupons: int
    granted: list[GrantedView]
    rules: list[SimulatedRuleView]
    days: list[SimulatedDayView]
    failures: dict[str, int]
    examples: list[ExampleView]
    span: SpanView | None


@router.post("/rules:simulate", summary="See what a rule would have done")
async def simulate_rule(body: SimulationBody, call: RuleWriter, request: Request) -> SimulationView:
    """The draft counts as active, whatever its state and dates, beside the other active rules; budgets and limits begin
    with nothing used, and what rules give starts no further rules. Nothing is saved, posted or sent.

    Over a span of time it is held against what was recorded: admissions, exits, postings, tiers that changed, cards
    issued, birthdays, at most 20,000 of them; `span.read_until` tells how far that went, and another request goes on
    from there. Rules on `schedule` have no past; make moments up for them. Scans that were annulled since are among
    them. Begin with a local midnight: visits before the span are not known."""
    draft, others = await _draft(call, body)
    await _grantable(call, draft)
    tenant = await call.query(GetTenant(call.tenant_id), TenantView)
    zone = tenant.settings.time_zone
    simulator = Simulator(draft, others)
    slots: Slots = request.app.state.simulations
    span = None
    with slots.hold(call.tenant_id):
        if body.moments is not None:
            await see_all(simulator, _made_up(body, draft, zone))
        else:
            span = await _see_past(call, simulator, _span(call, body), zone)
    report = simulator.report()
    granted = [await _granted(call, coupon_id, count) for coupon_id, count in report.granted.items()]
    return _view(report, draft.rule_id, span, granted)


async def _draft(call: Call, body: SimulationBody) -> tuple[RuleDefinition, tuple[RuleDefinition, ...]]:
    """Rules 1 and 2."""
    definition = read_rule(body.rule, body.rule_id or DRAFT_ID)
    if body.rule_id is not None:
        replaced, view = await found_rule(call, body.rule_id)
        version = replaced.version + 1
    else:
        view, version = await call.query(GetRules(call.tenant_id), RulesView), 1
    draft = msgspec.structs.replace(definition, version=version, state="active")
    error = admission_error(view.rules, draft)
    if error is not None:
        raise Problem(LIMIT_REACHED, error.message)
    return draft, view.rules


def _made_up(body: SimulationBody, draft: RuleDefinition, zone: str) -> list[Moment]:
    if body.since is not None or body.until is not None:
        raise _bad("Either moments or a span of time.", "#/moments")
    moments = []
    for number, document in enumerate(body.moments or ()):
        moment = moment_of(document, draft.on, zone)
        if isinstance(moment, DocumentError):
            raise malformed_rule((moment,), f"#/moments/{number}")
        moments.append(moment)
    return sorted(moments, key=lambda moment: moment.at_ms)


def _span(call: Call, body: SimulationBody) -> Span:
    now_ms = call.parts.clock_ms()
    until_ms = ms(body.until) or now_ms
    since_ms = ms(body.since) or until_ms - limits.SIMULATION_DAYS_DEFAULT * DAY_MS
    if until_ms >= YEAR_9999_MS:
        raise _bad("The time must be before 9999.", "#/until")
    if since_ms >= until_ms:
        raise _bad("`from` must be before `until`, and in the past.", "#/from")
    return Span(since_ms, until_ms)


async def _see_past(call: Call, simulator: Simulator, span: Span, zone: str) -> SpanView:
    is_fresh = await call.is_fresh()
    partition_id = call.parts.freshness.partition(call.tenant_id)
    if partition_id is None:
        raise Problem("unavailable", retry_after_ms=limits.SIMULATION_RETRY_AFTER_MS)
    past = PastOfTenant(call.parts.pool, partition_id, call.tenant_id, zone, call.parts.clock_ms)
    reached: Reached = await past.see(simulator, span)
    return SpanView(
        **{"from": rfc3339(span.since_ms)},
        until=rfc3339(span.until_ms),
        read_until=rfc3339(reached.until_ms),
        complete=reached.until_ms == span.until_ms,
        facts=reached.facts,
        stale=not is_fresh,
    )


def _bad(detail: str, pointer: str) -> Problem:
    return Problem("malformed", detail, [FieldError(detail, pointer=pointer)])


async def _grantable(call: Call, draft: RuleDefinition) -> None:
    """As the engine judges it when the rule is saved (`actors.rule_admin`)."""
    for number, action in enumerate(draft.then):
        if not isinstance(action, GrantCoupon):
            continue
        try:
            found = await call.query(GetCoupon(call.tenant_id, action.coupon_id), CouponView)
            fault = fault_of_granting(found.terms)
        except Problem as problem:
            if problem.code != COUPON_UNKNOWN:
                raise
            fault = fault_of_granting(None)
        if fault:
            error = DocumentError(f"/then/{number}/coupon_id", f"{action.coupon_id!r}: {fault}")
            raise malformed_rule((error,))


async def _granted(call: Call, coupon_id: str, count: int) -> GrantedView:
    found = await call.query(GetCoupon(call.tenant_id, coupon_id), CouponView)
    terms, value = found.terms, found.terms.value
    return GrantedView(
        coupon_id=coupon_id,
        name=terms.name,
        granted=count,
        left=max(0, terms.uses_max - found.counts.issued) if terms.uses_max else None,
        points=count * value.points if isinstance(value, PointsValue) else 0,
        vnd=count * value.vnd if isinstance(value, AmountValue) else 0,
    )


def _view(report: Simulation, draft_id: str, span: SpanView | None, granted: list[GrantedView]) -> SimulationView:
    return SimulationView(
        moments=report.moments,
        applied=report.applied,
        points=report.points,
        coupons=report.coupons,
        granted=granted,
        rules=[_rule(totals, draft_id) for totals in report.rules],
        days=[
            SimulatedDayView(
                date=_date(day.date),
                moments=day.moments,
                applied=day.applied,
                points=day.points,
                coupons=day.coupons,
            )
            for day in report.days
        ],
        failures=report.failures,
        examples=[_example(example) for example in report.examples],
        span=span,
    )


def _rule(totals: RuleTotals, draft_id: str) -> SimulatedRuleView:
    return SimulatedRuleView(
        id=totals.rule_id,
        version=totals.version,
        is_draft=totals.rule_id == draft_id,
        applied=totals.applied,
        cards=totals.cards,
        effects=totals.effects,
        points=totals.points,
        coupons=totals.coupons,
        withheld=totals.withheld,
        failed=totals.failed,
        days=[
            RuleDayView(date=_date(day.date), applied=day.applied, points=day.points, coupons=day.coupons)
            for _, day in sorted(totals.days.items())
        ],
    )


def _example(example: Example) -> ExampleView:
    return ExampleView(
        at=rfc3339(example.at_ms),
        card_id=example.card_id,
        cause=example.cause or None,
        effects=[_effect(effect) for effect in example.effects],
    )


def _effect(effect: Effect) -> dict[str, Any]:
    """As actions are told in documents of rules."""
    fields = {name: getattr(effect, name) for name in effect.__struct_fields__ if name not in ("rule_id", "version")}
    return {"action": effect.__struct_config__.tag, **fields}


def _date(yyyymmdd: int) -> str:
    text = f"{yyyymmdd:08}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"
