"""Ready-made rules: documents with places for parameters, one file each in `rules/templates/`.

Rules:
1. `{{name}}` is the place of a parameter. A text that is nothing but a place becomes the value itself, a number as a
   number. In an expression (`when`, `amount`) the value stands as CEL writes it, a text in quotes; elsewhere as it is.
2. Every parameter has a default; with the defaults each template is a rule that `parse_rule` takes.
3. A value that does not fit its parameter is told by the parameter's name; what it makes of the rule is for
   `parse_rule` to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from rules.document import DocumentError
from rules.limits import ID_CHARS_MAX

_PLACE: Final = re.compile(r"\{\{([a-z_]+)\}\}")
_EXPRESSIONS: Final = frozenset({"when", "amount"})
_QUOTED: Final = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place that a template leaves open. `minimum` and `maximum` are those of a number."""

    title: str
    type: Literal["integer", "string"]
    default: int | str
    minimum: int = 0
    maximum: int = 0


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ready-made rule. `rule` is its document with places in it, `template_id` the file's name."""

    template_id: str = ""
    title: str
    description: str
    parameters: dict[str, Parameter]
    rule: dict[str, Any]


def _read() -> dict[str, Template]:
    decoder = msgspec.json.Decoder(Template)
    found: dict[str, Template] = {}
    for file in sorted((files("rules") / "templates").iterdir(), key=lambda file: file.name):
        template_id = file.name.removesuffix(".json")
        found[template_id] = msgspec.structs.replace(decoder.decode(file.read_bytes()), template_id=template_id)
    return found


TEMPLATES: Final[Mapping[str, Template]] = _read()


def fill(template: Template, values: Mapping[str, Any]) -> dict[str, Any] | tuple[DocumentError, ...]:
    """The document that a template makes with these values, the defaults for those that are missing; or what is wrong
    with the values, with pointers into them."""
    chosen = {name: values.get(name, parameter.default) for name, parameter in template.parameters.items()}
    errors = [
        DocumentError(f"/{name}", f"There is no such parameter; there are {', '.join(chosen)}.")
        for name in values
        if name not in chosen
    ]
    for name, parameter in template.parameters.items():
        message = _unfit(parameter, chosen[name])
        if message:
            errors.append(DocumentError(f"/{name}", message))
    if errors:
        return tuple(errors)
    document: dict[str, Any] = _filled(template.rule, chosen, False)
    return document


def _unfit(parameter: Parameter, value: Any) -> str:
    if parameter.type == "string":
        is_fit = isinstance(value, str) and 1 <= len(value) <= ID_CHARS_MAX
        return "" if is_fit else f"This must be a text of 1 to {ID_CHARS_MAX} characters."
    is_fit = isinstance(value, int) and not isinstance(value, bool) and parameter.minimum <= value <= parameter.maximum
    return "" if is_fit else f"This must be a whole number from {parameter.minimum} to {parameter.maximum}."


def _filled(value: Any, chosen: Mapping[str, int | str], is_expression: bool) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, chosen, key in _EXPRESSIONS) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, chosen, False) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole and not is_expression:
        return chosen[whole.group(1)]
    return _PLACE.sub(lambda place: _written(chosen[place.group(1)], is_expression), value)


def _written(value: int | str, is_expression: bool) -> str:
    if not is_expression or isinstance(value, int):
        return str(value)
    return "'" + "".join(_QUOTED.get(character, character) for character in value) + "'"
