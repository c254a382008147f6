"""What clients ask at the doors of events: scans of every kind, annulments, lists, answers, and terms with zones and
sessions."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.commands import CheckIn, Command
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from actors.terms import Admission, Gate, Question, Session, Zone
from tests.simulation.world import START_MS

Head = tuple[str, str, bytes]
DAY_MS = 24 * 3_600_000
ZONES = (Zone("zone_a", "Floor", 1), Zone("zone_b", "Balcony"))
SESSIONS = tuple(Session(f"ses_{n}", f"Show {n}", START_MS + 1_700 * n, START_MS + 1_700 * n + 1_600) for n in range(8))
CONDITIONAL = (
    Admission(condition="card.points < 20", message="Too rich"),
    Admission(condition="counts.visits_event <= 2 || card.tier == 'gold'"),
    Admission(condition="member.attributes.vip == 1 && scan.gate_id != 'gate_2'"),
    Admission(condition="card.colour == 'red'"),  # there is no such thing
)
QUESTIONS = (Question("q_1", "Any allergies?"), Question("q_2", "Vegan?", ("yes", "no")))


def check_in(rng: Random, now_ms: int, head: Head, event_id: str, card_id: str) -> CheckIn:
    """A scan: mostly an ordinary one."""
    direction: Any = rng.choice(("entry", "entry", "exit"))
    gate_id = rng.choice(("", "gate_1", "gate_1", "gate_2", "gate_a", "gate_b"))
    valid_until = rng.choice((0, 0, 0, 0, 0, now_ms + rng.randint(-20, 50)))
    more: dict[str, Any] = {"valid_until_ms": valid_until}
    dice = rng.random()
    if dice < 0.2:
        late_ms = rng.choice((-3_000, -800, -200, -20, 0, 30, -DAY_MS * rng.choice((1, 1, 2, 4, 9))))
        more.update(is_offline=True, scanned_at_ms=max(1, now_ms + late_ms))
        if rng.random() < 0.15:
            more["offline_reason"] = rng.choice(("full", "card_suspended", "already_admitted"))
    elif dice < 0.3:
        more["forced_by"] = "acc_boss"
    return CheckIn(*head, event_id, card_id, gate_id, f"dev_{rng.randint(1, 3)}", direction, **more)


def at_doors(rng: Random, head: Head, event_id: str, card_id: str, scans: list[tuple[str, str]]) -> Command:
    """Anything else at a door. `scans` are scans that were let in, with their events."""
    dice = rng.random()
    if dice < 0.5:
        scan_id, of_event = rng.choice(scans[-6:]) if scans and rng.random() < 0.9 else ("scan_ghost", event_id)
        return AnnulScan(*head, of_event, scan_id, rng.choice(("", "", "dev_1", "dev_2")))
    if dice < 0.6:
        return SendOut(*head, event_id)
    if dice < 0.75:
        return ChangeAdmissionList(
            *head, event_id, *rng.choice((((card_id,), ()), ((), (card_id,)), ((card_id, "card_1"), (card_id,))))
        )
    if dice < 0.9:
        answers = rng.choice(((("q_1", "nuts"),), (("q_2", "yes"), ("q_1", "")), (("q_2", "maybe"),), (("q_9", ""),)))
        return AnswerQuestions(*head, event_id, card_id, answers)
    return NoteCard(*head, card_id, rng.choice(("", "Greet by name")))


def terms_change(rng: Random) -> dict[str, Any]:
    """A change of what an event's doors know."""
    return rng.choice(
        (
            {"zones": rng.choice((ZONES, ZONES[:1], ()))},
            {"gate": Gate("gate_a", "Floor", True, "zone_a")},
            {"gate": Gate("gate_b", "Balcony", rng.random() < 0.9, "zone_b")},
            {"sessions": rng.choice((SESSIONS, SESSIONS[:2], ()))},
            {"admission": rng.choice((Admission(), Admission(("gold",)), Admission((), True, "Members only")))},
            {"admission": rng.choice(CONDITIONAL)},
            {"exit_all_minute": rng.choice((-1, 0, 0, 10))},
            {"questions": rng.choice((QUESTIONS, QUESTIONS[:1], ())), "tags": ("jazz", "late")},
        )
    )
