"""Attributes and their schemas: what is taken, what is refused and where it says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.members import limits
from gateway.members.attributes import DIALECT, attribute_errors, is_valid, properties_of, schema_errors

SHOES = {
    "$schema": DIALECT,
    "type": "object",
    "title": "Shoes",
    "required": ["size"],
    "additionalProperties": False,
    "properties": {
        "size": {"type": "integer", "minimum": 20, "maximum": 60},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "maxLength": 8},
        "since": {"type": "string", "format": "date"},
        "tags": {
            "type": "array",
            "items": {"type": "string", "enum": ["new", "old"]},
            "uniqueItems": True,
            "maxItems": 3,
        },
        "a/b": {"type": "object", "properties": {"x": {"type": ["number", "boolean"]}}},
    },
}
TEXT = msgspec.json.encode(SHOES).decode()


def nested(depth: int, key: str = "a") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {key: value}
    return value


def test_a_good_schema_is_taken() -> None:
    assert schema_errors(SHOES, "#/schema") == []
    assert properties_of(TEXT) == {
        "size": "integer",
        "code": "string",
        "since": "string",
        "tags": "array",
        "a/b": "object",
    }


@pytest.mark.parametrize(
    ("change", "pointer", "word"),
    [
        ({"type": "array"}, "#/schema", "object"),
        ({"$ref": "#"}, "#/schema/$ref", "keywords"),
        ({"$ref": "https://example.org/x"}, "#/schema/$ref", "keywords"),
        ({"$dynamicRef": "#x"}, "#/schema/$dynamicRef", "keywords"),
        ({"$defs": {}}, "#/schema/$defs", "keywords"),
        ({"patternProperties": {"(a+)+": {}}}, "#/schema/patternProperties", "keywords"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "#/schema/$schema", "dialect"),
        ({"properties": []}, "#/schema/properties", "object"),
        ({"properties": {"a": {"type": "strin"}}}, "#/schema/properties/a/type", "one or several"),
        ({"properties": {"a": {"type": "null"}}}, "#/schema/properties/a/type", "one or several"),
        ({"properties": {"a": 5}}, "#/schema/properties/a", "boolean"),
        ({"properties": {"a/~b": {"minimum": "x"}}}, "#/schema/properties/a~1~0b/minimum", "number"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "#/schema/properties/a/pattern", "regex"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, "#/schema/properties/a/pattern", "regex"),
        ({"properties": {"a": {"pattern": "("}}}, "#/schema/properties/a/pattern", "regex"),
        ({"properties": {"a": {"pattern": "((a{1,99}){1,99}){1,99}"}}}, "#/schema/properties/a/pattern", "regex"),
        ({"properties": {"a": {"pattern": "a" * 201}}}, "#/schema/properties/a/pattern", "at most 200"),
        ({"properties": {"a": {"format": "regex"}}}, "#/schema/properties/a/format", "Formats"),
        ({"properties": {"a": {"enum": list(range(201))}}}, "#/schema/properties/a/enum", "at most 200"),
        ({"properties": {"a": {"items": {"oneOf": []}}}}, "#/schema/properties/a/items/oneOf", "keywords"),
        ({"additionalProperties": {"not": {}}}, "#/schema/additionalProperties/not", "keywords"),
        ({"properties": {"x" * 65: {}}}, "#/schema/properties/" + "x" * 65, "printable"),
        ({"properties": {"": {}}}, "#/schema/properties/", "printable"),
        ({"properties": {f"p{n}": {} for n in range(101)}}, "#/schema", "at most 100"),
        ({"title": "a\0b"}, "#/schema/title", "NUL"),
        ({"title": "x" * 17_000}, "#/schema", "at most 16384"),
        ({"default": nested(40)}, "#/schema/default" + "/a" * 15, "deep"),
        ({"required": ["a", "a"]}, "#/schema/required", "unique"),
        ({"minProperties": -1}, "#/schema/minProperties", "less than"),
    ],
)
def test_what_a_schema_may_not_say(change: dict[str, Any], pointer: str, word: str) -> None:
    errors = schema_errors({"type": "object", **change}, "#/schema")
    assert errors
    assert errors[0].pointer == pointer
    assert word in errors[0].detail


def test_properties_at_all_levels_count_and_depth_is_bounded() -> None:
    inner = {"type": "object", "properties": {f"p{n}": {} for n in range(60)}}
    both = {"type": "object", "properties": {"a": inner, "b": {"items": inner}}}
    assert "at most 100" in schema_errors(both, "#")[0].detail
    deep: dict[str, Any] = {}
    for _ in range(limits.SCHEMA_DEPTH_MAX - 1):
        deep = {"properties": {"a": deep}}
    assert schema_errors({**deep, "type": "object"}, "#") == []
    assert "deep" in schema_errors({"type": "object", "properties": {"a": deep}}, "#")[0].detail


@pytest.mark.parametrize(
    ("attributes", "pointers"),
    [
        ({"size": 40}, []),
        ({"size": 40, "code": "AB12", "since": "2026-02-28", "tags": ["new"], "a/b": {"x": True}}, []),
        ({}, ["#/attributes/size"]),
        ({"size": 40, "other": 1, "more": 2}, ["#/attributes/other", "#/attributes/more"]),
        ({"size": "40"}, ["#/attributes/size"]),
        ({"size": 40, "code": "ab"}, ["#/attributes/code"]),
        ({"size": 40, "since": "2026-02-30"}, ["#/attributes/since"]),
        ({"size": 40, "tags": ["new", "new"]}, ["#/attributes/tags"]),
        ({"size": 40, "tags": ["new", "else"]}, ["#/attributes/tags/1"]),
        ({"size": 40, "a/b": {"x": "y"}}, ["#/attributes/a~1b/x"]),
        ({"size": 4, "code": 5}, ["#/attributes/size", "#/attributes/code"]),
    ],
)
def test_attributes_against_a_schema(attributes: dict[str, Any], pointers: list[str]) -> None:
    found = [error.pointer for error in attribute_errors(TEXT, attributes, "#/attributes")]
    assert sorted(map(str, found)) == sorted(pointers)
    assert is_valid(TEXT, attributes) == (not pointers)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"a": "x" * limits.ATTRIBUTES_BYTES_MAX}, "bytes"),
        (nested(limits.ATTRIBUTES_DEPTH_MAX + 1), "deep"),
        (nested(5_000), "deep"),
        ({"a": list(range(limits.ATTRIBUTES_COUNT_MAX))}, "values"),
        ({"a": "b\0"}, "NUL"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a\n": 1}, "printable"),
        ({"a": 2**53}, "digits"),
        ({"a": -1e300}, "digits"),
        ({"a": float("nan")}, "digits"),
    ],
)
def test_what_no_attributes_may_hold(attributes: dict[str, Any], word: str) -> None:
    (error,) = attribute_errors(None, attributes, "#")
    assert word in error.detail


def test_any_ordinary_attributes_are_taken_without_a_schema() -> None:
    attributes = {"a": [1, 2.5, None, True, {"b": "ế👩‍🚀"}], "c": nested(limits.ATTRIBUTES_DEPTH_MAX - 1)}
    assert attribute_errors(None, attributes, "#") == []


def test_long_values_and_many_errors_are_told_shortly() -> None:
    schema = msgspec.json.encode({"type": "object", "additionalProperties": {"type": "integer"}}).decode()
    errors = attribute_errors(schema, {f"k{n}": "x" * 100 for n in range(100)}, "#")
    assert len(errors) == limits.ERRORS_MAX
    (error,) = attribute_errors(schema, {"k": "x" * 5_000}, "#")
    assert len(error.detail) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [*"ab", "type", "properties", "items", "pattern", "required", "enum", "minimum", "$ref"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@example({"properties": {"a": True}})
def test_no_schema_breaks_anything(value: Any) -> None:
    schema = {**value, "type": "object"} if isinstance(value, dict) else value
    if not schema_errors(schema, "#"):
        text = msgspec.json.encode(schema).decode()
        attribute_errors(text, {"a": 1, "b": "x"}, "#")
        properties_of(text)
