"""Expressions as Python functions of a `Moment`, where Python does exactly what CEL does; nothing else is translated.

Rules:
1. The tree has been checked (`rules.expression_types`). What is made here is a Python syntax tree of nodes that this
   module chooses, with names from `rules.environment` and constants; no text of a user's is ever read as Python.
2. Translated is what has a known type and cannot fail: comparisons of numbers, texts and truth values, logic,
   arithmetic whose bounds lie within 64 bits, division of numbers that cannot be negative, tests of texts.
3. Attributes of members are compared with texts and truth values only. One that is missing raises (`KeyError`, or
   `TypeError` further inside); whoever calls then asks CEL, whose word it is whether that is an error here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from rules.environment import VARIABLES
from rules.expression_parser import INT64_MAX
from rules.expression_tree import (
    Binary,
    Call,
    Chain,
    Conditional,
    Constant,
    ListOf,
    Name,
    Node,
    Select,
    Unary,
)
from rules.expression_types import INT64_MIN, Checked, Typed, attribute_key, is_attributes
from rules.moment import Moment

# What a translated expression can raise: then CEL has to say what is so.
ASK_CEL: Final = (KeyError, TypeError)

_ARITHMETIC: Final[dict[str, Callable[[], ast.operator]]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.FloorDiv,
    "%": ast.Mod,
}
_COMPARISONS: Final[dict[str, Callable[[], ast.cmpop]]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}
_TEXT_METHODS: Final = {"startsWith": "startswith", "endsWith": "endswith"}
_PLAIN: Final = ("bool", "int", "string")


class _NotPython(Exception):
    """This part stays CEL's."""


def to_python(checked: Checked) -> ast.expr | None:
    """The expression as a Python syntax tree over the name `m`, None where it stays CEL's."""
    try:
        return _Translator(checked.types).code(checked.root)
    except _NotPython:
        return None


def function_of(code: ast.expr) -> Callable[[Moment], Any]:
    """The function of a moment that returns what `code` says."""
    argument = ast.arguments(posonlyargs=[], args=[ast.arg("m")], kwonlyargs=[], kw_defaults=[], defaults=[])
    whole = ast.fix_missing_locations(ast.Expression(ast.Lambda(argument, code)))
    function: Callable[[Moment], Any] = eval(compile(whole, "<rule>", "eval"))
    return function


def any_of(codes: Sequence[ast.expr]) -> Callable[[Moment], Any]:
    """The function that says whether any of these conditions is true."""
    nothing = ast.Constant(False)
    return function_of(ast.BoolOp(ast.Or(), [*codes, nothing]) if codes else nothing)


def direct_which_of(
    codes: Sequence[ast.expr], paths: Mapping[str, str], arguments: Sequence[str], names: Mapping[str, Any]
) -> Callable[..., int] | None:
    """Which of these conditions are true, as a function of `arguments`: the n-th is bit n. `paths` says for a field of
    a moment ("card.tier") what it is of those, as Python over them and `names`. None where a condition looks at another
    field."""
    direct = _Direct({path: ast.parse(code, mode="eval").body for path, code in paths.items()})
    try:
        terms = [direct.visit(deepcopy(code)) for code in codes]
    except _NotPython:
        return None
    taken = [ast.arg(name) for name in arguments]
    argument = ast.arguments(posonlyargs=[], args=taken, kwonlyargs=[], kw_defaults=[], defaults=[])
    body: ast.expr = ast.Constant(0)
    for number, term in enumerate(terms):
        bit = ast.IfExp(term, ast.Constant(1 << number), ast.Constant(0))
        body = ast.BinOp(body, ast.BitOr(), bit) if number else bit
    whole = ast.fix_missing_locations(ast.Expression(ast.Lambda(argument, body)))
    function: Callable[..., int] = eval(compile(whole, "<rules>", "eval"), dict(names))
    return function


class _Direct(ast.NodeTransformer):
    """Puts what `paths` has in the place of a moment's fields."""

    def __init__(self, paths: Mapping[str, ast.expr]) -> None:
        self._paths = paths

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        path, view = node.attr, node.value
        if isinstance(view, ast.Attribute):
            path, view = f"{view.attr}.{path}", view.value
        if not isinstance(view, ast.Name):
            self.generic_visit(node)  # a method of a text
            return node
        found = self._paths.get(path)
        if found is None:
            raise _NotPython
        return deepcopy(found)


class _Translator:
    def __init__(self, types: dict[Node, Typed]) -> None:
        self._types = types

    def code(self, node: Node) -> ast.expr:
        if self._types[node].type not in _PLAIN:
            raise _NotPython
        match node:
            case Constant():
                return ast.Constant(node.value)
            case Select():
                return self._select(node)
            case Chain():
                operator = ast.And() if node.operator == "&&" else ast.Or()
                return ast.BoolOp(operator, [self.code(term) for term in node.terms])
            case Conditional():
                return ast.IfExp(self.code(node.condition), self.code(node.then), self.code(node.otherwise))
            case Unary():
                self._need_64_bits(node)
                return ast.UnaryOp(ast.Not() if node.operator == "!" else ast.USub(), self.code(node.operand))
            case Binary():
                return self._binary(node)
            case Call():
                return self._call(node)
            case _:
                raise _NotPython

    def _select(self, node: Select) -> ast.expr:
        if node.is_test and is_attributes(node.operand):
            return ast.Compare(ast.Constant(node.field), [ast.In()], [_path("member", "attributes")])
        if not isinstance(node.operand, Name) or node.operand.name not in VARIABLES:
            raise _NotPython
        return ast.Constant(True) if node.is_test else _path(node.operand.name, node.field)

    def _need_64_bits(self, node: Node) -> None:
        found = self._types[node]
        if found.type == "int" and (found.low < INT64_MIN or found.high > INT64_MAX):
            raise _NotPython

    def _binary(self, node: Binary) -> ast.expr:
        left, right = self._types[node.left], self._types[node.right]
        if node.operator in _ARITHMETIC:
            self._need_64_bits(node)
            if node.operator in ("/", "%") and (left.low < 0 or right.low <= 0):
                raise _NotPython  # CEL rounds towards zero, Python downwards
            return ast.BinOp(self.code(node.left), _ARITHMETIC[node.operator](), self.code(node.right))
        if node.operator == "in":
            return ast.Compare(self.code(node.left), [ast.In()], [self._container(node.right, left)])
        if "dyn" in (left.type, right.type):
            return self._attribute_equality(node, left)
        if left.type != right.type:
            raise _NotPython
        return ast.Compare(self.code(node.left), [_COMPARISONS[node.operator]()], [self.code(node.right)])

    def _attribute_equality(self, node: Binary, left: Typed) -> ast.expr:
        dynamic, known = (node.left, node.right) if left.type == "dyn" else (node.right, node.left)
        value = self._attribute(dynamic)
        same = node.operator == "=="
        if node.operator not in ("==", "!="):
            raise _NotPython
        if self._types[known].type == "string":
            return ast.Compare(value, [ast.Eq() if same else ast.NotEq()], [self.code(known)])
        if isinstance(known, Constant) and isinstance(known.value, bool):
            return ast.Compare(value, [ast.Is() if same else ast.IsNot()], [ast.Constant(known.value)])
        raise _NotPython  # in Python True == 1

    def _attribute(self, node: Node) -> ast.expr:
        key = attribute_key(node)
        if key is not None:
            return ast.Subscript(_path("member", "attributes"), ast.Constant(key), ast.Load())
        if isinstance(node, Select) and not node.is_test:
            return ast.Subscript(self._attribute(node.operand), ast.Constant(node.field), ast.Load())
        raise _NotPython

    def _container(self, node: Node, item: Typed) -> ast.expr:
        if isinstance(node, ListOf):
            values: list[ast.expr] = [ast.Constant(one.value) for one in node.items if isinstance(one, Constant)]
            kinds = {self._types[one].type for one in node.items}
            if len(values) == len(node.items) and kinds == {item.type} and item.type in ("int", "string"):
                return ast.Set(values)
        elif self._types[node].type == "texts" and isinstance(node, Select):
            return self._select(node)
        elif is_attributes(node):
            return _path("member", "attributes")
        raise _NotPython

    def _call(self, node: Call) -> ast.expr:
        if node.target is None or self._types[node.target].type != "string":
            raise _NotPython
        if node.function == "contains":
            return ast.Compare(self.code(node.arguments[0]), [ast.In()], [self.code(node.target)])
        if node.function not in _TEXT_METHODS:
            raise _NotPython
        method = ast.Attribute(self.code(node.target), _TEXT_METHODS[node.function], ast.Load())
        return ast.Call(method, [self.code(node.arguments[0])], [])


def _path(variable: str, field: str) -> ast.expr:
    code: ast.expr = ast.Name("m", ast.Load())
    for name in VARIABLES[variable][field].path:
        code = ast.Attribute(code, name, ast.Load())
    return code
