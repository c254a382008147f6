"""Every seed holds every invariant, and together the seeds meet every situation that matters.

Run one again: `python -m tests.simulation.run --seed N --trace`. A seed that fails goes into `failing_seeds.txt`.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.simulation.run import Failure, Run, run_seed, small_world

SEED_COUNT = int(os.environ.get("MASTERVIP_SEEDS", "1000"))
FIRST_SEED = int(os.environ.get("MASTERVIP_FIRST_SEED", "10000"))
CHUNK = 50

# Each must have happened, or the seeds prove less than they seem to.
SITUATIONS = (
    *("append lost before it was written", "append written, reply lost", "append outcome unknown", "append refused"),
    *("zombie append fenced", "open fenced", "opened, reply lost", "read met a gap", "journal restart"),
    *("host crash", "crash between effects", "host pause", "graceful close", "wrong owner", "halt"),
    *("projector crashed", "projector slept", "commit outcome unknown", "belated projector refused", "postgres outage"),
    *("load failed", "load older than the present", "parked behind parked", "waited too long"),
    *("put away", "loaded again after being put away", "journal budget spent", "client timed out"),
    *("replay from memory", "replay from Postgres", "id_reused from memory", "id_reused from Postgres"),
    *("reversal of a recent entry", "reversal of a forgotten entry", "reversal short"),
    *("another tenant's entity is unknown", "card_unknown told", "event_unknown told"),
    *("points award", "points redeem", "points reverse", "points expire", "points top_up", "points pay"),
    *("points hold", "points capture", "points release", "points lapse", "points confirm", "points transfer"),
    *("held points", "held wallet", "a capture reversed", "a lapsed lot came back", "pending points taken back"),
    *("published", "topic recovered", "topic snapshot", "topic updates missed", "cards changed"),
    *("conflict told live", "conflict taken back live"),
    *("reply BoardView", "reply CardView", "reply EventView", "reply TenantView", "reply TopicView"),
    *("reply Failed moved", "reply Failed overloaded", "reply Failed unavailable"),
    *("scan entry", "scan exit", "scan credential_invalid", "scan credential_expired", "scan card_revoked"),
    *("scan credential_replayed", "scan tag_uid", "fact CardReissued", "fact CardRenewed", "fact CardTierChanged"),
    *("fact TagEnrolled", "fact TagAssigned", "fact TagRemoved", "refused tag_in_use", "refused tag_unknown"),
    *("scan card_suspended", "scan card_expired", "scan event_not_open", "scan event_closed", "scan event_cancelled"),
    *("scan gate_unknown", "scan gate_closed", "scan already_admitted", "scan not_inside", "scan full"),
    *("refused insufficient_points", "refused card_not_active", "refused card_revoked", "refused amount_invalid"),
    *("refused entry_unknown", "refused entry_not_reversible", "refused already_reversed"),
    *("refused hold_unknown", "refused hold_captured", "refused hold_released", "refused hold_lapsed"),
    *("refused insufficient_funds", "refused pending_invalid", "refused entry_not_pending"),
    "refused transfer_to_itself",
    *("refused capacity_invalid", "refused expiry_invalid", "refused quota_exceeded", "the last card of a plan"),
    *("fact CardHolderRenamed", "alarm set", "alarm rang"),
    *("scan not_eligible", "scan is_offline", "scan is_move", "scan conflict", "scan forced", "scan left_zone_id"),
    *("scan session_id", "scan questions", "scan message", "scan uploaded late", "scan condition_failure"),
    *("fact RuleSaved", "fact RuleDeleted", "fact RulesApplied", "fact EffectRequested", "fact RuleUnitsReturned"),
    *("rules at checkin", "rules at exit", "rules at points_earned", "rules at points_spent", "rules at top_up"),
    *("rules at tier_changed", "rules at card_issued", "rules at streak_reached", "a rule with a limit"),
    *("rules at depth 1", "rules at depth 2", "rule failed key_missing", "rule failed amount_out_of_range"),
    *("refused rule_unknown", "refused rule_invalid"),
    *("rules at coupon_used", "units back from checkin", "units back from coupon", "units back from entry"),
    *("fact CardHolderDescribed", "fact BirthdayCame", "rules at birthday"),
    *("fact SchedulesMoved", "rules at schedule"),
    *("tier manual", "tier points", "tier review", "tier until", "fact TierReviewed"),
    *("visit made", "visit again", "visit late", "visit taken back"),
    *(
        "fact ScanAnnulled",
        "fact EveryoneLeft",
        "fact AdmissionListChanged",
        "fact QuestionsAnswered",
        "fact CardNoted",
    ),
    *("refused terms_invalid", "refused scan_unknown", "refused scan_not_admitted", "refused scan_of_other_device"),
    *("refused scan_superseded", "refused annul_too_late", "refused question_unknown", "refused answer_invalid"),
    *("coupon on_hold", "coupon redeemed", "coupon released", "coupon lapsed", "coupon rolled_back"),
    *("refused coupon_not_active", "refused coupon_ended", "refused coupon_not_started", "refused coupon_expired"),
    *("refused coupon_not_for_card", "refused coupon_already_used", "refused coupon_on_hold"),
    *("refused coupon_not_combinable", "refused coupon_card_limit_reached", "refused coupon_limit_reached"),
    "refused hold_invalid",
    *("refused coupon_not_redeemed", "refused already_rolled_back", "refused coupon_terms_invalid"),
    *("refused code_taken", "coupon_unknown told", "redemption_unknown told", "reply CouponView"),
    "reply RedemptionView",
    *("board points", "board visits", "board streak", "board regulars", "board rising", "board_unknown told"),
    *("paid out to 0", "paid out to 1", "refused window_open", "refused already_paid_out"),
    *("visit of a frozen day", "visit after the event"),
    *("CodeGranted for checkin", "CodeGranted for exit", "CodeGranted for entry", "CodeGranted for coupon"),
    *("CodeGranted for tier", "CodeGranted for issue", "CodeGranted for birthday", "CodeGranted for schedule"),
    *("CodeWithdrawn for checkin", "CodeWithdrawn for entry", "CodeWithdrawn for coupon", "refused coupon_withdrawn"),
    *("granted on_hold", "granted redeemed", "granted released", "granted lapsed", "granted rolled_back"),
    *("rule failed coupon_limit_reached", "rule failed coupon_not_for_card", "rule failed coupon_not_active"),
    "rule failed coupon_ended",
    *("fact CouponUseBegan", "fact BillBegan", "fact CodesIssued"),
)


def failing_seeds() -> list[int]:
    lines = (Path(__file__).parent / "failing_seeds.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def run_chunk(first: int) -> tuple[Counter[str], list[str]]:
    """Runs some seeds; in a process of its own."""
    seen: Counter[str] = Counter()
    failures = []
    for seed in range(first, min(first + CHUNK, FIRST_SEED + SEED_COUNT)):
        try:
            seen += run_seed(seed)
        except Failure as failure:
            failures.append(str(failure))
    return seen, failures


def tail_of(seed: int) -> tuple[bytes, int]:
    """What a seed's journal ends with, and when."""
    run = Run(seed)
    with small_world():
        run.run()
    return run.journal.tail.checksum, run.world.now_ms


@pytest.mark.parametrize("seed", failing_seeds())
def test_seeds_that_failed_once(seed: int) -> None:
    run_seed(seed)


def test_many_seeds() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(run_chunk, range(FIRST_SEED, FIRST_SEED + SEED_COUNT, CHUNK)))
    failures = [failure for _, found in results for failure in found]
    assert not failures, f"{len(failures)} seeds failed\n\n" + "\n\n".join(failures[:5])
    seen: Counter[str] = Counter()
    for counted, _ in results:
        seen += counted
    if SEED_COUNT >= 1_000:
        missing = [situation for situation in SITUATIONS if not seen[situation]]
        assert not missing, f"never met: {missing}"


def test_a_seed_is_a_run_bit_for_bit() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for seed in (FIRST_SEED, FIRST_SEED + 1):
            assert pool.submit(tail_of, seed).result() == tail_of(seed)
