"""The few hot REST paths, as bare ASGI or less: check-ins and points. Everything else is FastAPI's.

Rules:
1. One request: headers, caller, body, command, reply, answer. No middleware, no dependency injection, no task. Nearly
   all go without ASGI, too (`direct`): those that are all there, of a caller known by heart. Both ways are one code
   from the caller on, and give the same bytes.
2. Strict: a body is decoded into a typed struct, and what does not fit is a 400 that names the field. Every input gets
   a 4xx or an outcome; a 5xx is ours alone.
3. The request id is `scan_id`, else the Idempotency-Key, else a UUIDv7 made here.
4. Every operation counts once against the limits (`gateway.limiter`), whatever becomes of it; a batch counts its items,
   each by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from time import perf_counter

import msgspec

from actors.facts import CommandRefused, PointsPosted, ScanJudged
from actors.ports import StoreUnavailable
from actors.replies import Done, Failed, Reply
from gateway import limits, render
from gateway.cors import Cors
from gateway.deprecations import Deprecations
from gateway.doorway import ACTION, ORDINARY, Doorway, Manner
from gateway.entrance import Entrance
from gateway.hot import Gathered, Hot, OnBody, take, taken, telling
from gateway.http import (
    HSTS,
    JSON_HEADERS,
    DirectHandler,
    Disconnected,
    Headers,
    OnAnswer,
    Receive,
    RequestHeaders,
    Scope,
    Send,
    check_body,
    lines,
    problem_headers,
    read_body,
    request_headers,
    send_json,
    send_problem,
    with_headers,
)
from gateway.identity.callers import Caller
from gateway.ids import is_id
from gateway.limiter import LIMITED
from gateway.parts import EdgeParts
from gateway.points import VERBS, Verb, command_of
from gateway.problems import Problem, problem_of
from gateway.requests import (
    CheckInBatchRequest,
    CheckInRequest,
    check_check_in,
    check_note,
    decode,
    time_ms,
    unknown_card,
)
from gateway.trace_ids import NAME as TRACE_ID
from gateway.trace_ids import TraceIds

CHECKINS = "/v1/checkins"
CHECKINS_BATCH = "/v1/checkins:batch"
CARDS_PREFIX = "/v1/cards/"
CARD_STEPS = 5  # slashes in /v1/cards/{card_id}/points/{verb}

_check_in_decoder = msgspec.json.Decoder(CheckInRequest)
_batch_decoder = msgspec.json.Decoder(CheckInBatchRequest)
_encode = msgspec.json.Encoder().encode
_CARDS_URL = CARDS_PREFIX.encode()
_HSTS_LINE = lines([HSTS])
# Of a 200 that goes without ASGI: the body's length and the trace id are left to fill in.
_OK_LINES = lines([*JSON_HEADERS, (b"content-length", b"%d"), (TRACE_ID, b"%b")])

OPERATIONS = frozenset(
    {("POST", CHECKINS), ("POST", CHECKINS_BATCH)} | {("POST", f"{CARDS_PREFIX}{{card_id}}/{verb}") for verb in VERBS}
)
"""What is answered here: method and path template."""


def _template_of(path: str) -> str:
    """The template of a path on this lane."""
    if path in (CHECKINS, CHECKINS_BATCH):
        return path
    return f"{CARDS_PREFIX}{{card_id}}/{_split(path)[1]}"


def _split(path: str) -> tuple[str, str]:
    """A path below a card's: the card's id, and the last two steps ("points/award")."""
    head, _, verb = path.rpartition("/")
    head, _, group = head.rpartition("/")
    return head[len(CARDS_PREFIX) :], f"{group}/{verb}"


class FastLane:
    """Answers the hot paths."""

    def __init__(
        self,
        parts: EdgeParts,
        doorway: Doorway,
        entrance: Entrance,
        cors: Cors,
        trace_ids: TraceIds,
        deprecations: Deprecations,
    ) -> None:
        self._engine = parts.engine
        self._ids = parts.ids
        self._metrics = parts.metrics
        self._limiter = parts.limiter
        self._doorway = doorway
        self._entrance = entrance
        self._cors = cors
        self._trace_ids = trace_ids
        self._deprecations = deprecations
        self._clock_ms = parts.clock_ms
        self._fixed = {
            CHECKINS: Hot("checkins", limits.BODY_BYTES_MAX, _anyone, self._check_in),
            CHECKINS_BATCH: Hot("checkins:batch", limits.BATCH_BODY_BYTES_MAX, _may_scan, self._check_in_batch),
        }
        self._direct: dict[bytes, DirectHandler] = {
            path.encode(): partial(self._answer_directly, hot) for path, hot in self._fixed.items()
        }

    def handler(self, path: str) -> Hot | None:
        """What answers a path; None when it is not on this lane."""
        hot = self._fixed.get(path)
        if hot is None and path.startswith(CARDS_PREFIX) and path.count("/") >= CARD_STEPS:
            card_id, name = _split(path)
            verb = VERBS.get(name)
            if verb is not None:
                return Hot(
                    "points", limits.BODY_BYTES_MAX, partial(self._admit, verb), partial(self._points, verb, card_id)
                )
        return hot

    async def answer(self, hot: Hot, scope: Scope, receive: Receive, send: Send) -> None:
        """One POST, start to end."""
        caller: Caller | None = None
        template = ""
        if self._deprecations:  # as a rule there are none
            template = _template_of(scope["path"])
            send = with_headers(send, self._deprecations.headers("POST", template))
        try:
            if template:
                self._deprecations.check("POST", template, self._clock_ms())
            headers = request_headers(scope["headers"])
            caller = await self._entrance.caller(scope, headers)
            hot.before(caller)
            body = await read_body(receive, headers.content_bytes, hot.body_bytes_max)
            answer = await taken(hot, caller, headers, body)
        except Problem as problem:
            await self._refuse(hot.name, problem, scope, caller, send)
        except StoreUnavailable:
            away = Problem("unavailable", "The caller cannot be looked up now.")
            await self._refuse(hot.name, away, scope, caller, send)
        except Disconnected:
            return
        else:
            self._metrics.count(hot.name, 200)
            more = [(TRACE_ID, self._trace_ids.of(headers.trace_id))]
            if headers.origin is not None:
                more += self._cors.headers(headers.origin, caller.tenant_id)
            if scope.get("scheme") == "https":
                more.append(HSTS)
            await send_json(send, 200, answer, more)

    # --- without ASGI -------------------------------------------------------------------------------------------------

    def direct(self, url: bytes) -> DirectHandler | None:
        """What answers a POST to this address without ASGI, if anything does."""
        if self._deprecations:
            return None
        direct = self._direct.get(url)
        if direct is None and url.startswith(_CARDS_URL):
            path = url.decode("latin-1")
            hot = self.handler(path)
            if hot is not None and is_id(_split(path)[0]):
                return partial(self._answer_directly, hot)
        return direct

    def _answer_directly(self, hot: Hot, raw: Headers, body: bytes, is_secure: bool, on_answer: OnAnswer) -> bool:
        """See `DirectHandler`. What `answer` does, where there is nothing to wait for but the engine."""
        try:
            headers = request_headers(raw)
            caller = self._entrance.known(headers)
        except Problem:
            return False
        if caller is None or headers.origin is not None:
            return False

        def finish(told: bytes | Problem) -> None:
            if isinstance(told, Problem):
                self._metrics.count(hot.name, told.row.status)
                trace_id = self._trace_ids.of_headers(raw)
                refusal = told.body(trace_id.decode())
                more = [*self._cors.headers(None, caller.tenant_id), *([HSTS] if is_secure else [])]
                on_answer(told.row.status, lines(problem_headers(told, refusal, trace_id) + more), refusal)
                return
            self._metrics.count(hot.name, 200)
            head = _OK_LINES % (len(told), self._trace_ids.of(headers.trace_id))
            on_answer(200, head + _HSTS_LINE if is_secure else head, told)

        try:
            hot.before(caller)
            check_body(max(headers.content_bytes, len(body)), hot.body_bytes_max)
        except Problem as problem:
            finish(problem)
        else:
            take(hot, caller, headers, body, finish)
        return True

    async def _refuse(self, name: str, problem: Problem, scope: Scope, caller: Caller | None, send: Send) -> None:
        self._metrics.count(name, problem.row.status)
        origin = next((value for header, value in scope["headers"] if header == b"origin"), None)
        more = self._cors.headers(origin, caller.tenant_id if caller is not None else "")
        if scope.get("scheme") == "https":
            more.append(HSTS)
        await send_problem(send, problem, self._trace_ids.of_headers(scope["headers"]), more)

    # --- check-ins ----------------------------------------------------------------------------------------------------

    def _check_in(self, caller: Caller, headers: RequestHeaders, body: bytes, on_body: OnBody) -> None:
        started = perf_counter()
        request: CheckInRequest = decode(_check_in_decoder, body)
        check_check_in(request)
        request_id = request.scan_id or headers.idempotency_key or self._ids.request_id()

        self._submit(caller, request, request_id, telling(partial(self._verdict, caller, started), on_body))

    def _verdict(self, caller: Caller, started: float, reply: Reply) -> bytes:
        self._metrics.observe(perf_counter() - started)
        if type(reply) is Done and type(reply.fact) is ScanJudged:
            return render.verdict_json(reply.fact, reply.replayed)
        if type(reply) is Failed and reply.code == LIMITED:
            raise self._limiter.refusal(caller, reply.retry_after_ms)
        raise _problem(reply)

    def _check_in_batch(self, caller: Caller, headers: RequestHeaders, body: bytes, on_body: OnBody) -> None:
        batch: CheckInBatchRequest = decode(_batch_decoder, body)
        ahead_ms = time_ms(batch.now, "#/now") - self._clock_ms() if batch.now is not None else 0
        request_ids: list[str | None] = []

        def told(replies: list[Reply | Problem]) -> bytes:
            items = [_item(request_id, reply) for request_id, reply in zip(request_ids, replies, strict=True)]
            return _encode({"items": items})

        gathered = Gathered(len(batch.items), telling(told, on_body))
        for index, raw in enumerate(batch.items):
            request_ids.append(self._submit_item(caller, headers, index, raw, gathered, ahead_ms))
        gathered.close()

    def _submit_item(
        self,
        caller: Caller,
        headers: RequestHeaders,
        index: int,
        raw: msgspec.Raw,
        gathered: Gathered,
        ahead_ms: int,
    ) -> str | None:
        """Hands in one item of a batch; one that is malformed is answered by itself and holds up no other."""
        try:
            request: CheckInRequest = decode(_check_in_decoder, raw)
            if request.offline is None and request.scanned_at is not None and not request.force:
                request.offline = True  # that is what batches are for
            check_check_in(request)
            request_id = request.scan_id or _item_id(headers.idempotency_key, index) or self._ids.request_id()
            self._submit(caller, request, request_id, gathered.slot(index), ahead_ms)
        except Problem as problem:
            gathered.put(index, problem)
            return None
        return request_id

    def _submit(
        self,
        caller: Caller,
        request: CheckInRequest,
        request_id: str,
        on_reply: Callable[[Reply], None],
        ahead_ms: int = 0,
    ) -> None:
        scanned_at = request.scanned_at
        manner = ORDINARY
        if request.offline or request.force:
            manner = Manner(bool(request.offline), request.refused or "", ahead_ms, request.force)
        self._doorway.check_in(
            caller,
            request_id,
            request.event_id,
            request.credential,
            request.gate_id or "",
            request.direction,
            0 if scanned_at is None else time_ms(scanned_at, "#/scanned_at"),
            on_reply,
            manner,
        )

    # --- points -------------------------------------------------------------------------------------------------------

    def _admit(self, verb: Verb, caller: Caller) -> None:
        """Counts one operation. Raises `Problem` (403, 429)."""
        if caller.reach(verb.action) is None:
            raise Problem(caller.refusal)
        wait_ms = self._limiter.admit(caller)
        if wait_ms:
            raise self._limiter.refusal(caller, wait_ms)

    def _points(
        self, verb: Verb, card_id: str, caller: Caller, headers: RequestHeaders, body: bytes, on_body: OnBody
    ) -> None:
        request = decode(verb.decoder, body)
        check_note(request.note)
        if not is_id(card_id):
            raise unknown_card(card_id)
        request_id = headers.idempotency_key or self._ids.request_id()
        command = command_of(verb, caller.tenant_id, request_id, card_id, request)
        self._engine.submit(command, telling(_posted, on_body))


def _may_scan(caller: Caller) -> None:
    if caller.reach(ACTION) is None:
        raise Problem(caller.refusal)


def _anyone(_: Caller) -> None:
    """The doorway judges who may check in."""


def _posted(reply: Reply) -> bytes:
    if isinstance(reply, Done) and isinstance(reply.fact, PointsPosted):
        return _encode(render.points_answer(reply.fact, reply.replayed))
    raise _problem(reply)


def _problem(reply: Reply) -> Problem:
    """What is wrong with a reply that is not the hoped-for fact."""
    if isinstance(reply, Done) and isinstance(reply.fact, CommandRefused):
        return problem_of(reply.fact)
    if isinstance(reply, Failed):
        return problem_of(reply)
    return Problem("internal", "The engine gave an answer of another kind.")


def _item(request_id: str | None, reply: Reply | Problem) -> object:
    """An item of a batch's answer: a verdict, or the scan id and the problem with it."""
    if isinstance(reply, Done) and isinstance(reply.fact, ScanJudged):
        return render.verdict(reply.fact, reply.replayed)
    problem = reply if isinstance(reply, Problem) else _problem(reply)
    return {"scan_id": request_id, "problem": problem.document()}


def _item_id(key: str | None, index: int) -> str | None:
    """Items without a scan id get theirs from the batch's Idempotency-Key, so that a retry of the batch is
    recognised."""
    return None if key is None else blake2b(f"{index}|{key}".encode(), digest_size=16).hexdigest()
