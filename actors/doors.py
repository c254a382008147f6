"""Deciding what happens at an event's doors besides scans: annulments, sending out, lists, answers. Pure; refusals come
back as facts."""

from __future__ import annotations

from actors.coupon_grants import withdrawn
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, DoorCommand, NoteCard, SendOut
from actors.door_facts import AdmissionListChanged, CardNoted, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.event import Event, attendance_key
from actors.facts import AlarmSet, CommandRefused, Fact, ScanDetails, ScanJudged
from actors.freezing import part_taken_back
from actors.ledger import LedgerDraft
from actors.points import event_score, take_back_awards
from actors.refusals import (
    ANNUL_TOO_LATE,
    ANSWER_INVALID,
    LIMIT_REACHED,
    QUESTION_UNKNOWN,
    SCAN_NOT_ADMITTED,
    SCAN_OF_OTHER_DEVICE,
    SCAN_SUPERSEDED,
    SCAN_UNKNOWN,
)
from actors.rule_run import units_returned
from actors.schedule import Schedule, next_scheduled
from actors.scope import Scope
from actors.terms import ANNUL_MS_MAX, LISTED_PER_EVENT_MAX, NEVER, BoardPart, EventTerms
from actors.visits import Visits, taken_back

_PLAIN = ScanDetails()


def decide_annul(scope: Scope, command: AnnulScan, at_ms: int) -> list[Fact]:
    """Undoes an admission and takes back what it earned, or refuses: no such scan, no admission (what was decided
    without a network has happened), another device's, too late, not the latest scan of the card any more, in this
    order. Who had gone to another zone is back in the first, also where that is full by now: they never left it."""
    event = scope.event
    scan = scope.outcome(command.scan_id)
    if not isinstance(scan, ScanJudged) or scan.event_id != event.event_id:
        return [_refused(command, event.event_id, SCAN_UNKNOWN, "the event has no such scan", at_ms)]
    details = scan.details or _PLAIN
    if scan.reason or scan.direction != "entry" or details.is_offline:
        return [_refused(command, event.event_id, SCAN_NOT_ADMITTED, "nobody was let in by it here", at_ms)]
    if command.device_id and scan.device_id != command.device_id:
        return [_refused(command, event.event_id, SCAN_OF_OTHER_DEVICE, "another device admitted", at_ms)]
    if at_ms - scan.at_ms > ANNUL_MS_MAX:
        detail = f"an admission can be annulled for {ANNUL_MS_MAX // 60_000} minutes"
        return [_refused(command, event.event_id, ANNUL_TOO_LATE, detail, at_ms)]
    seen = event.attendance.get(attendance_key(scan.card_id, details.session_id))
    if seen is None or not seen.is_inside or seen.seen_ms != scan.at_ms or seen.zone_id != details.zone_id:
        detail = "it was annulled before, or the card was scanned again since"
        return [_refused(command, event.event_id, SCAN_SUPERSEDED, detail, at_ms)]
    visits = None
    if scan.visit_day:
        visits = taken_back(scope.need("card", scan.card_id).visits, scan.visit_day, event.event_id)
    part = part_taken_back(scope.tenant.settings, event.terms, scan, at_ms) if visits is not None else None
    annulled = _annulled(event, scan, details, seen.entries, command, at_ms, visits, part)
    return [annulled, *_taken_back(scope, scan, at_ms)]


def _annulled(
    event: Event,
    scan: ScanJudged,
    details: ScanDetails,
    entries: int,
    command: AnnulScan,
    at_ms: int,
    visits: Visits | None,
    part: BoardPart | None,
) -> ScanAnnulled:
    is_move, is_inside = details.is_move, details.is_move or details.was_inside
    left_id, back_id = details.zone_id, details.left_zone_id
    if is_inside and not is_move and not back_id:
        left_id, back_id = "", left_id  # entered again where they were
    return ScanAnnulled(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        event.event_id,
        scan.card_id,
        scan.request_id,
        command.device_id,
        event.inside - (not is_inside),
        event.admitted - (not is_move),
        entries - (not is_move),
        is_inside,
        details.session_id,
        left_id,
        event.zones.get(left_id, 0) - 1 if left_id else 0,
        back_id,
        event.zones.get(back_id, 0) + bool(details.left_zone_id) if back_id else 0,
        visits,
        scan.visit_day if visits is not None else 0,
        part,
    )


def _taken_back(scope: Scope, scan: ScanJudged, at_ms: int) -> list[Fact]:
    """The reversals of what an admission earned, but for what was reversed before, what its rules used, and the
    coupons that they granted."""
    if not scan.points_awarded and not scan.rules:
        return []
    card = scope.need("card", scan.card_id)
    cause = f"checkin:{scan.request_id}"
    returned = units_returned(scope.tenant, card, scan.rules, cause, at_ms)
    returned += withdrawn(scope, scan.rules, cause, at_ms)
    if not scan.points_awarded:
        return returned
    draft = LedgerDraft(scope.tenant, card, at_ms)
    draft.settle()
    event_earned = event_score(scope.tenant, scope.event, scan.card_id, at_ms)
    given = scan.points_awarded
    take_back_awards(scope, card, draft, cause, scan.award_seq, given, event_earned)
    return draft.finished(returned)


def decide_send_out(scope: Scope, command: SendOut, at_ms: int) -> list[Fact]:
    """Everybody has left."""
    return [_left(scope.event, at_ms, command.request_id, command.fingerprint)]


def decide_wake_event(scope: Scope, event: Event, at_ms: int) -> list[Fact]:
    """The hour at which everybody has left."""
    due_ms = event_alarm_ms(event.terms, at_ms)
    rang = AlarmSet(event.tenant_id, "", b"", at_ms, "event", event.event_id, due_ms, True)
    is_due = event.inside > 0 and event.terms.exit_all_minute != NEVER
    return [rang, _left(event, at_ms)] if is_due else [rang]


def event_alarm_ms(terms: EventTerms, after_ms: int) -> int:
    """When everybody is next taken to have left, 0: never."""
    if terms.exit_all_minute == NEVER or terms.state == "cancelled":
        return 0
    hour, minute = divmod(terms.exit_all_minute, 60)
    return next_scheduled(after_ms, Schedule(hour, minute), terms.time_zone)


def event_alarm(event_id: str, before: EventTerms | None, terms: EventTerms, tenant_id: str, at_ms: int) -> list[Fact]:
    """The event's alarm where new terms change it."""
    if before is None:
        if terms.exit_all_minute == NEVER:
            return []
    elif (before.exit_all_minute, before.time_zone, before.state) == (
        terms.exit_all_minute,
        terms.time_zone,
        terms.state,
    ):
        return []
    wake_ms = event_alarm_ms(terms, at_ms)
    if not wake_ms and (before is None or before.exit_all_minute == NEVER):
        return []
    return [AlarmSet(tenant_id, "", b"", at_ms, "event", event_id, wake_ms)]


def _left(event: Event, at_ms: int, request_id: str = "", fingerprint: bytes = b"") -> EveryoneLeft:
    return EveryoneLeft(event.tenant_id, request_id, fingerprint, at_ms, event.event_id, at_ms, event.inside)


def decide_change_admission_list(scope: Scope, command: ChangeAdmissionList, at_ms: int) -> list[Fact]:
    """Changes the list, unless it gets too long. A card that is named on both sides is taken off. Cards that there are
    not cannot be put on it."""
    event = scope.event
    scope.need_all("card", command.add)
    removed = tuple(sorted(event.listed.intersection(command.remove)))
    added = tuple(sorted(set(command.add) - event.listed - set(command.remove)))
    size = len(event.listed) + len(added) - len(removed)
    if size > LISTED_PER_EVENT_MAX:
        detail = f"an event's list has at most {LISTED_PER_EVENT_MAX} cards"
        return [_refused(command, event.event_id, LIMIT_REACHED, detail, at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, event.event_id)
    return [AdmissionListChanged(*head, added, removed, size)]


def decide_answer(scope: Scope, command: AnswerQuestions, at_ms: int) -> list[Fact]:
    """Records answers, unless a question is not the event's or an answer is none of its choices."""
    event = scope.event
    questions = {question.question_id: question for question in event.terms.questions}
    for question_id, answer in command.answers:
        question = questions.get(question_id)
        if question is None:
            return [_refused(command, event.event_id, QUESTION_UNKNOWN, f"no question {question_id!r}", at_ms)]
        if question.choices and answer not in question.choices:
            detail = f"question {question_id!r} has other choices"
            return [_refused(command, event.event_id, ANSWER_INVALID, detail, at_ms)]
    seen = event.attendance.get(command.card_id)
    before = set(seen.answered) if seen is not None else set()
    answered = tuple(sorted(before | {question_id for question_id, _ in command.answers}))
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, event.event_id, command.card_id)
    return [QuestionsAnswered(*head, command.answers, answered)]


def decide_note_card(scope: Scope, command: NoteCard, at_ms: int) -> list[Fact]:
    """Notes, whatever the card's state."""
    return [
        CardNoted(command.tenant_id, command.request_id, command.fingerprint, at_ms, command.card_id, command.attention)
    ]


def _refused(command: DoorCommand, entity_id: str, reason: str, detail: str, at_ms: int) -> CommandRefused:
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return CommandRefused(*head, type(command).__name__, entity_id, reason, detail)
