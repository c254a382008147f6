"""Free-form attributes of members against a schema that each organisation sets: a subset of JSON Schema 2020-12.

Rules:
1. A schema has the keywords of `KEYWORDS` only, is an object's at the top, and refers to nothing (there is no $ref): it
   says all there is to say, and nobody is asked for anything.
2. Patterns run on an engine that is linear in the text whatever they are (no look-around, no back-references), with a
   bound on what a compiled one takes.
3. Without a schema any attributes are taken. Size, depth, count of values and the kinds of text and numbers that
   JSON and Postgres both hold are bounded in any case.
4. Errors name each bad place by a JSON pointer; at most `ERRORS_MAX` are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import msgspec

from gateway.members import limits
from gateway.problems import FieldError

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FORMATS: Final = frozenset({"date", "time", "date-time", "duration", "email", "uri", "uuid"})
TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean"})
_SUBSCHEMAS: Final = frozenset({"items", "additionalProperties"})
KEYWORDS: Final = frozenset(
    {
        *("$schema", "title", "description", "default", "examples"),
        *("type", "enum", "const", "format"),
        *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        *("items", "minItems", "maxItems", "uniqueItems"),
        *("minLength", "maxLength", "pattern"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
)
_PATTERNS: Final = jsonschema_rs.RegexOptions(
    size_limit=limits.SCHEMA_PATTERN_BYTES_MAX, dfa_size_limit=limits.SCHEMA_PATTERN_CACHE_BYTES_MAX
)


def pointer(base: str, *steps: str | int) -> str:
    """`base` and the steps as a JSON pointer (RFC 6901)."""
    return base + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def structure_errors(value: Any, base: str) -> list[FieldError]:
    """What is wrong with a value before anybody looks at what it means (rule 3). Whatever recurses over a value of a
    client's may do so only after this."""
    return _first(_value_walk(value, base))


def schema_errors(schema: Any, base: str) -> list[FieldError]:
    """What is wrong with a schema; `base` points to it. Empty for a good one."""
    errors = _first(_value_walk(schema, base, limits.SCHEMA_VALUES_DEPTH_MAX, limits.SCHEMA_VALUES_MAX))
    if errors:
        return errors
    if len(msgspec.json.encode(schema)) > limits.SCHEMA_BYTES_MAX:
        return [FieldError(f"A schema has at most {limits.SCHEMA_BYTES_MAX} bytes.", pointer=base)]
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return [FieldError('The schema is of an object: {"type": "object", …}.', pointer=base)]
    errors = _first(_schema_walk(schema, base, 1))
    count = _count_properties(schema)
    if count > limits.SCHEMA_PROPERTIES_MAX:
        errors.append(FieldError(f"A schema has at most {limits.SCHEMA_PROPERTIES_MAX} properties.", pointer=base))
    if errors:
        return errors
    try:
        _compile(schema)
    except jsonschema_rs.ValidationError as error:
        return [FieldError(_told(error), pointer=pointer(base, *error.instance_path))]
    return []


def attribute_errors(schema: str | None, attributes: dict[str, Any], base: str) -> list[FieldError]:
    """What is wrong with attributes under an organisation's schema (its text, None without one); `base` points to
    them."""
    errors = structure_errors(attributes, base)
    if not errors and len(msgspec.json.encode(attributes)) > limits.ATTRIBUTES_BYTES_MAX:
        errors = [FieldError(f"Attributes have at most {limits.ATTRIBUTES_BYTES_MAX} bytes.", pointer=base)]
    if errors or schema is None:
        return errors
    return _first(_mismatches(_validator(schema), attributes, base))


def is_valid(schema: str, attributes: dict[str, Any]) -> bool:
    """Whether stored attributes would pass."""
    return _validator(schema).is_valid(attributes)


@lru_cache(limits.SCHEMA_CACHE_ENTRIES_MAX)
def properties_of(schema: str) -> dict[str, str]:
    """The properties at the top with their type ("" where that is none or several, or the schema is just true), in the
    order of the schema."""
    properties: dict[str, Any] = msgspec.json.decode(schema).get("properties", {})
    kinds = {name: inner.get("type", "") if isinstance(inner, dict) else "" for name, inner in properties.items()}
    return {name: kind if isinstance(kind, str) else "" for name, kind in kinds.items()}


@lru_cache(limits.SCHEMA_CACHE_ENTRIES_MAX)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return _compile(msgspec.json.decode(schema))


def _compile(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Raises `jsonschema_rs.ValidationError`."""
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, ignore_unknown_formats=False, offline=True, pattern_options=_PATTERNS
    )


def _first(errors: Iterator[FieldError]) -> list[FieldError]:
    return [error for _, error in zip(range(limits.ERRORS_MAX), errors, strict=False)]


def _mismatches(
    validator: jsonschema_rs.Draft202012Validator, attributes: dict[str, Any], base: str
) -> Iterator[FieldError]:
    for error in validator.iter_errors(attributes):
        place = pointer(base, *error.instance_path)
        kind = error.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            yield FieldError("This is required.", pointer=pointer(place, kind.property))
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            for name in kind.unexpected:
                yield FieldError("The schema has no such attribute.", pointer=pointer(place, name))
        else:
            yield FieldError(_told(error), pointer=place)


def _told(error: jsonschema_rs.ValidationError) -> str:
    """The message without the value, which may be long, and is the caller's own anyway."""
    message: str = error.message
    return message if len(message) <= 200 else f"Does not satisfy {error.kind.name!r}."


def _schema_walk(schema: Any, base: str, depth: int) -> Iterator[FieldError]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield FieldError("A schema is an object or a boolean.", pointer=base)
        return
    if depth > limits.SCHEMA_DEPTH_MAX:
        yield FieldError(f"Schemas are nested at most {limits.SCHEMA_DEPTH_MAX} deep.", pointer=base)
        return
    for keyword, value in schema.items():
        place = pointer(base, keyword)
        if keyword not in KEYWORDS:
            yield FieldError(f"Not among the keywords that are taken: {', '.join(sorted(KEYWORDS))}.", pointer=place)
        elif keyword in _SUBSCHEMAS:
            yield from _schema_walk(value, place, depth + 1)
        elif keyword == "properties":
            if not isinstance(value, dict):
                yield FieldError("`properties` is an object.", pointer=place)
                continue
            for name, inner in value.items():
                yield from _name_errors(name, pointer(place, name))
                yield from _schema_walk(inner, pointer(place, name), depth + 1)
        else:
            yield from _keyword_errors(keyword, value, place)


def _keyword_errors(keyword: str, value: Any, place: str) -> Iterator[FieldError]:
    """What the dialect's own schema does not say."""
    if keyword == "$schema" and value != DIALECT:
        yield FieldError(f"The dialect is {DIALECT}.", pointer=place)
    elif keyword == "type" and not _are_types(value):
        yield FieldError(f"A type is one or several of {', '.join(sorted(TYPES))}.", pointer=place)
    elif keyword == "format" and value not in FORMATS:
        yield FieldError(f"Formats that are checked: {', '.join(sorted(FORMATS))}.", pointer=place)
    elif keyword == "pattern" and not (isinstance(value, str) and len(value) <= limits.SCHEMA_PATTERN_CHARS_MAX):
        yield FieldError(f"A pattern has at most {limits.SCHEMA_PATTERN_CHARS_MAX} characters.", pointer=place)
    elif keyword == "enum" and isinstance(value, list) and len(value) > limits.SCHEMA_ENUM_MAX:
        yield FieldError(f"An enum has at most {limits.SCHEMA_ENUM_MAX} values.", pointer=place)


def _are_types(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return all(isinstance(name, str) and name in TYPES for name in names)


def _count_properties(schema: Any) -> int:
    if not isinstance(schema, dict):
        return 0
    inner = schema.get("properties", {})
    inside = list(inner.values()) if isinstance(inner, dict) else []
    below = sum(_count_properties(value) for value in (*inside, *(schema.get(name) for name in _SUBSCHEMAS)))
    return len(inside) + below


def _name_errors(name: str, place: str) -> Iterator[FieldError]:
    if not 0 < len(name) <= limits.ATTRIBUTE_NAME_CHARS_MAX or not name.isprintable():
        detail = f"A name has 1 to {limits.ATTRIBUTE_NAME_CHARS_MAX} printable characters."
        yield FieldError(detail, pointer=place)


def _value_walk(
    value: Any,
    base: str,
    depth_max: int = limits.ATTRIBUTES_DEPTH_MAX,
    count_max: int = limits.ATTRIBUTES_COUNT_MAX,
) -> Iterator[FieldError]:
    """Rule 3, without recursion: what is nested too deeply is not looked into."""
    count = 0
    rest: list[tuple[Any, str, int]] = [(value, base, 1)]
    while rest:
        inner, place, depth = rest.pop()
        count += 1
        if count > count_max:
            yield FieldError(f"At most {count_max} values are taken.", pointer=base)
            return
        if isinstance(inner, dict | list) and depth > depth_max:
            yield FieldError(f"Values are nested at most {depth_max} deep.", pointer=place)
        elif isinstance(inner, dict):
            for name, below in inner.items():
                yield from _name_errors(name, pointer(place, name))
                rest.append((below, pointer(place, name), depth + 1))
        elif isinstance(inner, list):
            rest += [(below, pointer(place, index), depth + 1) for index, below in enumerate(inner)]
        else:
            yield from _scalar_errors(inner, place)


def _scalar_errors(value: Any, place: str) -> Iterator[FieldError]:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            yield FieldError("Text has no NUL and no half of a surrogate pair.", pointer=place)
    elif isinstance(value, int | float) and not abs(value) <= limits.SAFE_INTEGER_MAX:
        yield FieldError("Beyond ±2^53 JSON readers lose digits.", pointer=place)
