"""The tree of an expression, as `rules.expression_parser` makes it. Nodes are told apart by identity; `at` is where in
the text a node's own sign stands (its operator, its dot, its name), in characters from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Macro = Literal["all", "exists", "exists_one", "map", "filter"]


class ExpressionError(Exception):
    """What is wrong with an expression, and where (`at`, in characters from 0)."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    at: int
    value: bool | int | float | str | None


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    at: int
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Select:
    """`operand.field`; within `has(…)` the question whether it is there."""

    at: int
    operand: Node
    field: str
    is_test: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    at: int
    operand: Node
    index: Node


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """`target.function(arguments)`, or without a target."""

    at: int
    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """A macro over a list: `source.macro(variable, body …)`."""

    at: int
    macro: Macro
    source: Node
    variable: str
    bodies: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Unary:
    at: int
    operator: str
    operand: Node


@dataclass(frozen=True, eq=False, slots=True)
class Binary:
    at: int
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
    """`a && b && c`, or with `||`."""

    at: int
    operator: str
    terms: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Conditional:
    at: int
    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, eq=False, slots=True)
class ListOf:
    at: int
    items: tuple[Node, ...]


Node: TypeAlias = Constant | Name | Select | Index | Call | Loop | Unary | Binary | Chain | Conditional | ListOf


def line_and_column(text: str, at: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character number `at` of `text`."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
