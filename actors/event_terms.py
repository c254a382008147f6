"""Whether an event's terms make sense together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from actors.terms import (
    NEVER,
    QUESTIONS_PER_EVENT_MAX,
    SESSIONS_PER_EVENT_MAX,
    ZONES_PER_EVENT_MAX,
    EventTerms,
)
from rules.limits import EXPRESSION_CHARS_MAX, TAGS_PER_EVENT_MAX, TEXT_CHARS_MAX

_MINUTES_PER_DAY = 24 * 60


def fault_of_terms(terms: EventTerms, people: Mapping[str, int]) -> str:
    """What is wrong with the terms, "" for nothing. `people` are those in each zone now."""
    return _fault_of_zones(terms, people) or _fault_of_sessions(terms) or _fault_of_the_rest(terms)


def _fault_of_zones(terms: EventTerms, people: Mapping[str, int]) -> str:
    zone_ids = [zone.zone_id for zone in terms.zones]
    if len(zone_ids) > ZONES_PER_EVENT_MAX:
        return f"an event has at most {ZONES_PER_EVENT_MAX} zones"
    if len(set(zone_ids)) < len(zone_ids):
        return "two zones have the same id"
    for gate in terms.gates:
        if gate.zone_id and gate.zone_id not in zone_ids:
            return f"gate {gate.gate_id} leads to zone {gate.zone_id}, which the event has not"
    gone = [zone_id for zone_id, count in people.items() if count > 0 and zone_id not in zone_ids]
    return f"there are people in zone {gone[0]}" if gone else ""


def _fault_of_sessions(terms: EventTerms) -> str:
    if len(terms.sessions) > SESSIONS_PER_EVENT_MAX:
        return f"an event has at most {SESSIONS_PER_EVENT_MAX} sessions"
    if len({session.session_id for session in terms.sessions}) < len(terms.sessions):
        return "two sessions have the same id"
    for session in terms.sessions:
        if session.doors_close_ms <= session.doors_open_ms:
            return f"session {session.session_id} closes before it opens"
    for before, after in pairwise(terms.sessions):
        if after.doors_open_ms < before.doors_close_ms:
            return f"session {after.session_id} opens before session {before.session_id} has closed"
    return ""


def _fault_of_the_rest(terms: EventTerms) -> str:
    if not (terms.exit_all_minute == NEVER or 0 <= terms.exit_all_minute < _MINUTES_PER_DAY):
        return "the time at which everybody leaves must be a minute of the day"
    question_ids = [question.question_id for question in terms.questions]
    if len(question_ids) > QUESTIONS_PER_EVENT_MAX:
        return f"an event has at most {QUESTIONS_PER_EVENT_MAX} questions"
    if len(set(question_ids)) < len(question_ids):
        return "two questions have the same id"
    if len(terms.tags) > TAGS_PER_EVENT_MAX:
        return f"an event has at most {TAGS_PER_EVENT_MAX} tags"
    if any(not 0 < len(tag) <= TEXT_CHARS_MAX for tag in terms.tags):
        return f"a tag has 1 to {TEXT_CHARS_MAX} characters"
    if len(set(terms.tags)) < len(terms.tags):
        return "two tags are the same"
    return _fault_of_condition(terms)


def _fault_of_condition(terms: EventTerms) -> str:
    condition = terms.admission.condition
    if len(condition) > EXPRESSION_CHARS_MAX:
        return f"an admission condition has at most {EXPRESSION_CHARS_MAX} characters"
    error = terms.admission.compiled.error if condition else None
    if error is None:
        return ""
    return f"the admission condition: {error.message} (line {error.line}, column {error.column})"
