"""The frames of the sockets as a page for people and as JSON Schema, made from the types that they are decoded into and
held against: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final, NamedTuple, get_args

import msgspec

from gateway.rest.docs import code_of, page_head, table
from gateway.sockets import codes, limits, topics, wire
from gateway.sockets.examples import EXAMPLES
from gateway.sockets.told import LIVE_TOLD, SCAN_TOLD

_TYPES: Final = {
    "string": "text",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "values by name",
}
_BOUNDS: Final = {
    "bytes of a frame": limits.FRAME_BYTES_MAX,
    "scans in a frame": limits.SCANS_PER_FRAME_MAX,
    "scans of a socket that wait for a verdict": limits.SCANS_IN_FLIGHT_MAX,
    "subscriptions of a socket": limits.SUBSCRIPTIONS_PER_SOCKET_MAX,
    "milliseconds until the hello": limits.HELLO_TIMEOUT_MS,
    "frames in a row that are wrong": limits.BAD_FRAMES_MAX,
    "bytes that wait for a reader": limits.BACKLOG_BYTES_MAX,
    "frames that wait for a reader": limits.BACKLOG_FRAMES_MAX,
    "updates of a topic that wait before a snapshot takes their place": limits.SUBSCRIBER_BACKLOG_MAX,
    "milliseconds that a reader may take nothing": limits.WRITE_STALL_MS,
    "cards in a frame of revocations": limits.CARDS_PER_FRAME_MAX,
}


class Socket(NamedTuple):
    """A socket: its path, what it is for, and the types of its frames."""

    path: str
    about: str
    asked: tuple[Any, ...]
    told: tuple[Any, ...]


SOCKETS: Final = (
    Socket("/v1/scan", "For scanners: scans in, verdicts out.", get_args(wire.ScanFrame), SCAN_TOLD),
    Socket(
        "/v1/live",
        "For boards, phones and organisers: topics in, a snapshot and then each update out.",
        get_args(wire.LiveFrame),
        LIVE_TOLD,
    ),
)


def frames_schema() -> dict[str, Any]:
    """All frames as JSON Schema 2020-12: `$defs`, and for each socket who sends which. Fields come to be in time:
    clients pass over those that they do not know."""
    every = [kind for socket in SOCKETS for kind in (*socket.asked, *socket.told)]
    references, definitions = msgspec.json.schema_components(every, ref_template="#/$defs/{name}")
    found = dict(zip(every, references, strict=True))
    for definition in definitions.values():
        definition.pop("additionalProperties", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "MasterVIP: the frames of the sockets",
        "$defs": definitions,
        "sockets": {
            socket.path: {
                "client": {"oneOf": [found[kind] for kind in socket.asked]},
                "server": {"anyOf": [found[kind] for kind in socket.told]},
            }
            for socket in SOCKETS
        },
    }


def sockets_page() -> bytes:
    """The page, in UTF-8."""
    return "".join(_page()).encode()


def _page() -> Iterator[str]:
    schema = frames_schema()
    yield page_head("MasterVIP: the sockets")
    yield (
        "<h1>The sockets</h1><p><a href=/docs>The API</a>. <a href=/docs/sockets/schema.json>JSON Schema</a>. "
        "Generated from the types that frames are decoded into. Every frame is one map with its type in "
        "<code>t</code>. The token comes in the <code>Authorization</code> header or in the hello, never in the "
        "address. Fields may be added: pass over those that you do not know. Null and absent fields of yours mean the "
        "same.</p>"
    )
    yield "<h2 id=subprotocols>Subprotocols</h2>"
    kinds = ((code_of(one.name), "JSON, text" if one.is_text else "MessagePack, binary") for one in wire.WIRES.values())
    yield table(("subprotocol", "frames"), kinds) + "<p>With none offered the socket speaks the first.</p>"
    for socket in SOCKETS:
        yield f"<h2 id={socket.path.rpartition('/')[2]}>{code_of(socket.path)}</h2><p>{escape(socket.about)}</p>"
        for side, frames in (("The client sends", socket.asked), ("The server sends", socket.told)):
            yield f"<h3>{side}</h3>" + "".join(_frame(socket.path, kind, schema["$defs"]) for kind in frames)
    yield "<h2 id=topics>Topics</h2>" + table(("topic",), ((code_of(kind.name),) for kind in topics.KINDS))
    yield "<h2 id=parts>What frames are made of</h2>"
    own = {_name(kind) for kind in EXAMPLES}
    for name, definition in schema["$defs"].items():
        if name not in own:
            title = escape(definition["title"])
            yield f"<details id={name}><summary>{title}. {_about(definition)}</summary>{_fields(definition)}</details>"
    yield "<h2 id=closes>Closes</h2><p>Before it, an error frame says the same where you still read.</p>"
    yield table(("code", "reason", "meaning", "reconnect", "what the client does"), _closes())
    yield "<h2 id=errors>Errors that leave the socket open</h2>"
    names = {close.name for close in codes.CLOSES}
    open_ones = ((code_of(name), escape(remedy)) for name, remedy in codes.REMEDIES.items() if name not in names)
    yield table(("code", "what the client does"), open_ones)
    yield "<p>And what the engine answers: ProblemCode of <a href=/docs#codes>the API</a>.</p><h2 id=bounds>Bounds</h2>"
    yield table(("of", "at most"), ((escape(what), f"{most:,}") for what, most in _BOUNDS.items()))


def _closes() -> Iterator[tuple[str, ...]]:
    for close in codes.CLOSES:
        again = "with back-off" if close.may_reconnect else "no"
        yield (
            code_of(str(close.code)),
            code_of(close.name),
            escape(close.message),
            again,
            escape(codes.REMEDIES[close.name]),
        )


def _name(kind: Any) -> str:
    """What the schema calls a type."""
    return str(msgspec.json.schema_components([kind], ref_template="{name}")[0][0]["$ref"])


def _frame(path: str, kind: Any, definitions: dict[str, Any]) -> str:
    name = _name(kind)
    definition = definitions[name]
    (tag,) = definition["properties"]["t"]["enum"]
    example = escape(msgspec.json.format(msgspec.json.encode(EXAMPLES[kind]), indent=2).decode())
    # What both sockets have is linked to where it stands first.
    anchor = f" id={name}" if path == SOCKETS[0].path or kind not in (*SOCKETS[0].asked, *SOCKETS[0].told) else ""
    head = f"<details{anchor}><summary>{code_of(tag)} {_about(definition)}</summary>"
    return f"{head}{_fields(definition)}<pre>{example}</pre></details>"


def _about(definition: dict[str, Any]) -> str:
    return escape(definition.get("description", "").replace("`", ""))


def _fields(definition: dict[str, Any]) -> str:
    needed = definition.get("required", ())
    rows = (
        (code_of(name), _kind(field), "always" if name in needed else "may be absent", _meaning(field))
        for name, field in definition["properties"].items()
        if name != "t"
    )
    return table(("field", "is", "", "meaning"), rows)


def _kind(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "$ref" in field:
        name = escape(field["$ref"].rpartition("/")[2])
        return f"<a href=#{name}>{name}</a>"
    if "enum" in field:
        return ", ".join(code_of(str(one)) for one in field["enum"])
    text = _TYPES[field["type"]]
    if "items" in field:
        text += f" of {_kind(field['items'])}"
    return text + "".join(_bounds(field))


def _bounds(field: dict[str, Any]) -> Iterable[str]:
    if "maxLength" in field:
        yield f", at most {field['maxLength']:,} characters"
    if "maxItems" in field:
        yield f", at most {field['maxItems']:,}"
    if "maximum" in field:
        yield f", {field['minimum']:,} to {field['maximum']:,}"


def _meaning(field: dict[str, Any]) -> str:
    told = [field, *field.get("anyOf", ())]
    return escape("; ".join(one["description"] for one in told if "description" in one).replace("`", ""))
