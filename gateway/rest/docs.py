"""The OpenAPI document as one page for people: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from typing import Any

import msgspec

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f;background:#fff}
h1{margin-bottom:.2rem}h2{margin-top:2.5rem;border-bottom:1px solid #d0d0d8}
details{border:1px solid #d0d0d8;border-radius:6px;margin:.5rem 0;padding:.3rem .8rem}summary{cursor:pointer}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f4f7;padding:.7rem;overflow:auto;border-radius:6px}
.verb{display:inline-block;min-width:4.2rem;font-weight:700}.path{font-weight:600}table{border-collapse:collapse}
td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#e6e6ea;background:#16161a}pre{background:#232329}
details,h2{border-color:#3a3a44}a{color:#9db7ff}}
"""
_STYLE_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
DOCS_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
CODES = "x-codes"
"""Where a schema has a closed list of codes: `code`, `meaning`, and `remedy`, what the client does."""
_VERBS = ("get", "post", "put", "patch", "delete")


def docs_page(document: dict[str, Any]) -> bytes:
    """The page, in UTF-8."""
    return "".join(_page(document)).encode()


def page_head(title: str) -> str:
    """How each page of the documentation begins."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    )


def code_of(text: str) -> str:
    """A text as code, in HTML."""
    return f"<code>{escape(text)}</code>"


def table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in HTML; cells are HTML, heads are text."""
    head = "".join(f"<th>{escape(one)}" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = escape(info["title"])
    yield page_head(info["title"])
    yield f"<h1>{title}</h1><p>Version {escape(info['version'])}. <a href=/openapi.json>OpenAPI document</a>. "
    yield "<a href=#codes>Codes</a>. <a href=/docs/rules>The language of rules</a>. "
    yield "<a href=/docs/sockets>The sockets</a>. <a href=/docs/permissions>Who may do what</a></p>"
    yield f"<p>{escape(info.get('description', ''))}</p>"
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for verb in _VERBS:
            if verb in operations:
                operation = operations[verb]
                tag = operation.get("tags", ["other"])[0]
                groups.setdefault(tag, []).append("".join(_operation(verb, path, operation)))
    for tag, operations in groups.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>{''.join(operations)}"
    schemas = sorted(document.get("components", {}).get("schemas", {}).items())
    yield "<h2 id=codes>Codes</h2>"
    for name, schema in schemas:
        if CODES in schema:
            yield from _codes(name, schema)
    yield "<h2>Schemas</h2>"
    for name, schema in schemas:
        yield f'<details id="{escape(name)}"><summary>{escape(name)}</summary>{_json(schema)}</details>'


def _codes(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(name)}</h3><p>{escape(schema['title'])}.</p>"
    yield "<table><tr><th>Code<th>Meaning<th>What the client does</tr>"
    for row in schema[CODES]:
        code = escape(row["code"])
        yield f'<tr id="{escape(name)}.{code}"><td><code>{code}</code><td>{escape(row["meaning"])}'
        yield f"<td>{escape(row['remedy'])}</tr>"
    yield "</table>"


def _operation(verb: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<details><summary><span class=verb>{verb.upper()}</span> <code class=path>{escape(path)}</code> "
    yield f"{escape(operation.get('summary', ''))}</summary><p>{escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>Parameter<th>In<th>Meaning</tr>"
        for parameter in parameters:
            meaning = parameter.get("description") or msgspec.json.encode(parameter.get("schema", {})).decode()
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}<td>{escape(meaning)}</tr>"
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Body</p>{''.join(_contents(operation['requestBody']['content']))}"
    for status, response in operation.get("responses", {}).items():
        yield f"<p><b>{escape(status)}</b> {escape(response.get('description', ''))}</p>"
        yield from _contents(response.get("content", {}))
    yield "</details>"


def _contents(contents: dict[str, Any]) -> Iterator[str]:
    for media_type, content in contents.items():
        schema = content.get("schema", {})
        reference = schema.get("$ref", "").rpartition("/")[2]
        if reference:
            yield f'<p><code>{escape(media_type)}</code> <a href="#{escape(reference)}">{escape(reference)}</a></p>'
        else:
            yield f"<p><code>{escape(media_type)}</code></p>{_json(schema)}"


def _json(value: object) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"
