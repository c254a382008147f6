"""The language of rules as a page for people, made from the tables that it is checked by: no script, nothing loaded
from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from gateway.rest.docs import code_of, page_head, table
from rules import guide, limits
from rules.document_schema import RULE_SCHEMA
from rules.environment import VARIABLES, Field, Type
from rules.language import TRIGGERS
from rules.templates import TEMPLATES, Template, fill

_TYPES: dict[Type, str] = {
    "bool": "true or false",
    "int": "whole number",
    "double": "decimal number",
    "string": "text",
    "texts": "list of texts",
    "numbers": "list of whole numbers",
    "list": "list",
    "map": "values by name",
    "dyn": "any value",
    "null": "null",
}
_BOUNDS: dict[str, int] = {
    "rules of an organisation": limits.RULES_PER_TENANT_MAX,
    "actions of a rule": limits.ACTIONS_PER_RULE_MAX,
    "characters of an expression": limits.EXPRESSION_CHARS_MAX,
    "parts of an expression": limits.EXPRESSION_NODES_MAX,
    "parts within parts": limits.EXPRESSION_DEPTH_MAX,
    "cost of an expression (1 for a part; a macro's body counts for each item)": limits.EXPRESSION_COST_UNITS_MAX,
    "cost of all active rules of one trigger": limits.TRIGGER_COST_UNITS_MAX,
    "points of one award": limits.POINTS_PER_AWARD_MAX,
    "characters of a member's attributes together": limits.ATTRIBUTE_CHARS_MAX,
    "values in an attribute that an expression looks into": limits.ATTRIBUTE_VALUES_MAX,
}


def rules_page() -> bytes:
    """The page, in UTF-8."""
    return "".join(_page()).encode()


def _page() -> Iterator[str]:
    yield page_head("MasterVIP: the language of rules")
    yield (
        "<h1>The language of rules</h1><p><a href=/docs>The API</a>. Generated from the tables that rules are checked "
        "by. A rule is a JSON document: <i>on</i> what, <i>when</i> (a condition in CEL), <i>then</i> what. Its schema "
        "is GET /v1/rules/schema; POST /v1/rules saves one, as a draft unless it says another state; "
        "POST /v1/rules:simulate shows what a draft would have done and cost, for moments of yours or of the past. "
        "What is wrong with a document is told all at once, each with a JSON pointer, in an expression with line and "
        "column, too.</p>"
    )
    yield "<h2 id=triggers>What a rule is on</h2>"
    yield table(("on", "when it comes"), ((code_of(name), escape(about)) for name, about in guide.TRIGGERS.items()))
    yield "<h2 id=variables>What an expression can name</h2>"
    yield (
        "<p>The card is the one before this moment; counts have this moment's visit in them. Times are those of the "
        "organisation's time zone. The <i>condition</i> of an event's admission names what a rule on <i>checkin</i> "
        "does; where it has no value the card is not let in.</p>"
    )
    yield table(("name", "is", "on", "meaning"), _variables())
    yield "<h2 id=expressions>Expressions</h2>"
    yield (
        "<p>Expressions are CEL; what stands here is all of it that is taken. There is no clock beside <i>now</i>, no "
        "randomness, no regular expression. Texts stand in single or double quotes.</p>"
    )
    yield table(
        ("", "meaning", "example"),
        ((code_of(sign.signs), escape(sign.about), code_of(sign.example)) for sign in guide.SIGNS),
    )
    yield "<h3>Conditions</h3>" + _examples(guide.EXAMPLES)
    yield "<h3>Amounts</h3>" + _examples(guide.AMOUNTS)
    yield "<h2 id=actions>Actions</h2>" + table(("action", "fields"), _actions())
    yield "<h2 id=order>Which rules apply</h2>"
    yield (
        "<p>Rules are looked at by <i>priority</i>, the highest first, then by id. A rule applies if it is active and "
        "valid, its condition is true, at least one of its actions gives something, and its limits leave room for all "
        "of it: never in part. What rules gave may move others (points_earned, tier_changed), "
        f"{limits.DEPTH_MAX} levels deep at most. Every effect cites rule, version and cause; what a rule used comes "
        "back when its cause is annulled or reversed. <i>multiply</i> counts in what the moment was awarded before.</p>"
    )
    yield table(("stacking", "meaning"), ((code_of(name), escape(about)) for name, about in guide.STACKING.items()))
    yield "<h3>What a rule with limits tells when it gives nothing</h3>"
    yield table(("reason", "meaning"), ((code_of(name), escape(about)) for name, about in guide.WITHHELD.items()))
    yield "<h2 id=failures>When a rule fails</h2>"
    yield (
        "<p>What happened stands, the rule is skipped, the others go on. The last failure of a rule is shown with it "
        "(<i>last_failure</i>); it is noted once a day for each version.</p>"
    )
    yield table(("reason", "meaning"), ((code_of(name), escape(about)) for name, about in guide.FAILURES.items()))
    yield "<h2 id=bounds>Bounds</h2>"
    yield table(("of", "at most"), ((escape(what), f"{most:,}") for what, most in _BOUNDS.items()))
    yield "<h2 id=templates>Ready-made rules</h2><p>GET /v1/rules/templates has them, with parameters to fill.</p>"
    for template_id, template in TEMPLATES.items():
        yield _template(template_id, template)


def _variables() -> Iterator[tuple[str, ...]]:
    for name, fields in VARIABLES.items():
        for key, field in fields.items():
            where = "all" if field.triggers == TRIGGERS else ", ".join(field.triggers)
            yield code_of(f"{name}.{key}"), _kind(field), escape(where), escape(field.about)


def _kind(field: Field) -> str:
    return _TYPES[field.type]


def _actions() -> Iterator[tuple[str, ...]]:
    for action in RULE_SCHEMA["properties"]["then"]["items"]["oneOf"]:
        fields = [
            f"{code_of(name)} {escape(schema['description'])}{' (needed)' if name in action['required'] else ''}"
            for name, schema in action["properties"].items()
            if name != "action"
        ]
        yield code_of(action["properties"]["action"]["const"]), "<br>".join(fields)


def _examples(examples: Iterable[guide.Example]) -> str:
    rows = (
        (
            f"{code_of(one.expression)}<br>{escape(one.about)}",
            code_of(one.on),
            code_of(json.dumps(dict(one.moment), ensure_ascii=False)),
            code_of(json.dumps(one.gives)),
        )
        for one in examples
    )
    return table(("expression", "on", "for the moment", "gives"), rows)


def _template(template_id: str, template: Template) -> str:
    document: Any = fill(template, {})
    shown = escape(json.dumps(document, indent=2, ensure_ascii=False))
    title, about = escape(template.title), escape(template.description)
    return (
        f"<details><summary><b>{title}</b> {code_of(template_id)}</summary><p>{about}</p><pre>{shown}</pre></details>"
    )
