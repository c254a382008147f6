"""What an expression means before it runs: the type, the bounds, the size and the cost of each of its parts.

Rules:
1. Only what `rules.environment` has for the trigger can be named, and only the functions below can be called: no clock,
   no randomness, no regular expressions (each run would compile them anew), no conversions to text.
2. Types that can be known must fit. What is known only at run time (`dyn`: attributes of members) may be anything here.
3. A macro runs over a list of known order, never over a map: CEL does not say in which order it meets a map's keys.
4. A cost is what the expression takes at most, in visited nodes: a macro's body counts once for each item that its list
   can have, long texts and lists count by their length. Nothing is run that may cost more than the limit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rules import limits
from rules.environment import VARIABLES, Field, Type, fields_of
from rules.expression_parser import INT64_MAX
from rules.expression_tree import (
    Binary,
    Call,
    Chain,
    Conditional,
    Constant,
    ExpressionError,
    Index,
    ListOf,
    Loop,
    Name,
    Node,
    Select,
    Unary,
)
from rules.language import Trigger

INT64_MIN: Final = -INT64_MAX - 1
_ITEMS: Final[dict[Type, Type]] = {"texts": "string", "numbers": "int", "list": "dyn"}
_LISTS: Final[dict[Type, Type]] = {"string": "texts", "int": "numbers"}
_NUMBERS: Final = frozenset({"int", "double"})
_TEXT_TESTS: Final = frozenset({"startsWith", "endsWith", "contains"})
_LOOP_COST_UNITS: Final = 4  # of one turn, besides its body
_CHARS_PER_UNIT: Final = 64
_ITEMS_COPIED_PER_UNIT: Final = 8  # map and filter copy what they have so far at each turn
_NAMES: Final[dict[Type, str]] = {
    "bool": "a truth value",
    "int": "a whole number",
    "double": "a broken number",
    "string": "a text",
    "null": "null",
    "texts": "a list",
    "numbers": "a list",
    "list": "a list",
    "dyn": "a value",
}


class Typed(NamedTuple):
    """What is known of a node. `low` and `high` bound a whole number (of a list: its items), `size` the characters of a
    text or the items of a list, `item_size` the characters of those; `cost` is the node's with all beneath it."""

    type: Type
    cost: int
    low: int = INT64_MIN
    high: int = INT64_MAX
    size: int = 1
    item_size: int = 1

    @property
    def weight(self) -> int:
        """What it takes to look at the whole value once, in cost units."""
        items = self.size if self.type in _ITEMS else 1
        return items * (1 + (self.item_size if self.type in _ITEMS else self.size) // _CHARS_PER_UNIT)


class Checked(NamedTuple):
    """An expression that has passed. `fields` are those that it reads, as (variable, field), `attributes` the keys of
    the member's attributes."""

    root: Node
    types: dict[Node, Typed]
    fields: frozenset[tuple[str, str]]
    attributes: frozenset[str]


def check(root: Node, trigger: Trigger) -> Checked:
    """Raises `ExpressionError` for what cannot be right, or costs too much."""
    checker = _Checker(trigger)
    checker.typed(root)
    return Checked(root, checker.types, frozenset(checker.fields), frozenset(checker.attributes))


def is_attributes(node: Node) -> bool:
    """Whether the node is `member.attributes` (no macro's variable can be called `member`)."""
    return (
        isinstance(node, Select)
        and not node.is_test
        and node.field == "attributes"
        and isinstance(node.operand, Name)
        and node.operand.name == "member"
    )


def attribute_key(node: Node) -> str | None:
    """The key of `member.attributes.key` and `member.attributes["key"]`, also within `has`."""
    if isinstance(node, Select) and is_attributes(node.operand):
        return node.field
    if isinstance(node, Index) and is_attributes(node.operand):
        index = node.index
        return index.value if isinstance(index, Constant) and isinstance(index.value, str) else None
    return None


class _Checker:
    def __init__(self, trigger: Trigger) -> None:
        self.types: dict[Node, Typed] = {}
        self.fields: set[tuple[str, str]] = set()
        self.attributes: set[str] = set()
        self._trigger = trigger
        self._variables = fields_of(trigger)
        self._bound: dict[str, Typed] = {}

    def typed(self, node: Node) -> Typed:
        """The node's type, noted; its children's before it."""
        found = self._visit(node)
        if found.cost > limits.EXPRESSION_COST_UNITS_MAX:
            message = f"This may cost {found.cost} units; at most {limits.EXPRESSION_COST_UNITS_MAX} are allowed."
            raise ExpressionError(message, node.at)
        self.types[node] = found
        return found

    def _visit(self, node: Node) -> Typed:
        match node:
            case Constant():
                return _constant(node.value)
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Loop():
                return self._loop(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Chain():
                terms = [self._truth(term) for term in node.terms]
                return Typed("bool", len(terms) + sum(term.cost for term in terms))
            case Conditional():
                return self._conditional(node)
            case ListOf():
                return _list_of([self.typed(item) for item in node.items])

    # --- names --------------------------------------------------------------------------------------------------------

    def _name(self, node: Name) -> Typed:
        if node.name in self._bound:
            return self._bound[node.name]
        self._fields_of(node)
        raise ExpressionError(f"{node.name} is no value by itself: name one of its fields.", node.at)

    def _fields_of(self, node: Name) -> dict[str, Field]:
        fields = self._variables.get(node.name)
        if fields is not None:
            return fields
        if node.name in VARIABLES:
            raise ExpressionError(f"{node.name} is not there for the trigger {self._trigger}.", node.at)
        known = ", ".join(sorted(self._variables))
        raise ExpressionError(f"There is no variable {node.name}; there are {known}.", node.at)

    def _select(self, node: Select) -> Typed:
        if isinstance(node.operand, Name) and node.operand.name not in self._bound:
            found = self._field(node.operand, node)
        elif attribute_key(node) is not None:
            found = self._attribute(node.operand, node.field)
        else:
            operand = self.typed(node.operand)
            if operand.type != "dyn":
                raise ExpressionError(f"{_told(operand)} has no fields.", node.at)
            found = _dynamic(operand.cost + 1)
        return Typed("bool", found.cost) if node.is_test else found

    def _field(self, variable: Name, node: Select) -> Typed:
        fields = self._fields_of(variable)
        field = fields.get(node.field)
        if field is None:
            if node.field in VARIABLES[variable.name]:
                message = f"{variable.name}.{node.field} is not there for the trigger {self._trigger}."
            else:
                message = f"{variable.name} has no field {node.field}; it has {', '.join(sorted(fields))}."
            raise ExpressionError(message, node.at)
        if field.type == "map":
            message = f"{variable.name}.{node.field} is no value by itself: name one of its keys, written out."
            raise ExpressionError(message, node.at)
        self.fields.add((variable.name, node.field))
        low, high = field.bounds
        if field.type == "texts":
            return Typed(field.type, 1 + field.size_max, size=field.size_max, item_size=limits.TEXT_CHARS_MAX)
        return Typed(field.type, 1, low, high, field.size_max)

    def _attribute(self, operand: Node, key: str) -> Typed:
        assert isinstance(operand, Select)
        self.fields.add(("member", "attributes"))
        self.types[operand] = Typed("map", 1)
        handing_over = 0 if key in self.attributes else limits.ATTRIBUTE_VALUES_MAX
        self.attributes.add(key)
        return _dynamic(2 + handing_over)

    def _index(self, node: Index) -> Typed:
        index = self.typed(node.index)
        key = attribute_key(node)
        if key is not None:
            return self._attribute(node.operand, key)
        operand = self.typed(node.operand)
        cost = operand.cost + index.cost + 1
        if operand.type in _ITEMS and index.type in ("int", "dyn"):
            return _item_of(operand)._replace(cost=cost)
        if operand.type == "dyn":
            return _dynamic(cost)
        raise ExpressionError(f"{_told(operand)} has no place for {_told(index)}.", node.at)

    # --- operations ---------------------------------------------------------------------------------------------------

    def _truth(self, node: Node) -> Typed:
        found = self.typed(node)
        if found.type not in ("bool", "dyn"):
            raise ExpressionError(f"This is {_told(found)}, where a truth value must be.", node.at)
        return found

    def _unary(self, node: Unary) -> Typed:
        if node.operator == "!":
            return Typed("bool", self._truth(node.operand).cost + 1)
        operand = self.typed(node.operand)
        if operand.type not in (*_NUMBERS, "dyn"):
            raise ExpressionError(f"This is {_told(operand)}, where a number must be.", node.at)
        if operand.type == "int" and operand.low <= INT64_MIN:
            # cel-rust 0.14 gives the least number itself here, where every other overflow is an error.
            raise ExpressionError("This can overflow unnoticed: subtract from 0 instead.", node.at)
        return operand._replace(cost=operand.cost + 1, low=-operand.high, high=-operand.low)

    def _binary(self, node: Binary) -> Typed:
        left = self.typed(node.left)
        if node.operator == "in" and is_attributes(node.right):
            if not isinstance(node.left, Constant) or not isinstance(node.left.value, str):
                raise ExpressionError("Only a text, written out, can be looked for in attributes.", node.at)
            return Typed("bool", 1 + self._attribute(node.right, node.left.value).cost)
        return _operation(node, left, self.typed(node.right))

    def _conditional(self, node: Conditional) -> Typed:
        condition, then, otherwise = self._truth(node.condition), self.typed(node.then), self.typed(node.otherwise)
        cost = condition.cost + then.cost + otherwise.cost + 1
        if "dyn" in (then.type, otherwise.type):
            return _dynamic(cost)
        if then.type != otherwise.type:
            raise ExpressionError(f"This is either {_told(then)} or {_told(otherwise)}.", node.at)
        return _either([then, otherwise], then.type)._replace(cost=cost)

    def _call(self, node: Call) -> Typed:
        given = (() if node.target is None else (node.target,)) + node.arguments
        arguments = [self.typed(argument) for argument in given]
        cost = 1 + sum(argument.cost for argument in arguments)
        kinds = [argument.type for argument in arguments]
        if node.function == "size" and len(kinds) == 1:
            if kinds[0] in (*_ITEMS, "dyn"):
                return Typed("int", cost, 0, INT64_MAX if kinds[0] == "dyn" else arguments[0].size)
        elif node.function in _TEXT_TESTS and node.target is not None and len(kinds) == 2:
            if set(kinds) <= {"string", "dyn"}:
                return Typed("bool", cost + sum(argument.weight for argument in arguments))
        elif node.function in _NUMBERS and node.target is None and len(kinds) == 1:
            if kinds[0] in (*_NUMBERS, "dyn"):
                return Typed("int" if node.function == "int" else "double", cost)
        else:
            known = ", ".join(sorted({"has", "size", *_NUMBERS, *_TEXT_TESTS}))
            message = f"There is no such call of {node.function}; there are {known} and the macros of lists."
            raise ExpressionError(message, node.at)
        told = " and ".join(_NAMES[kind] for kind in kinds)
        raise ExpressionError(f"{node.function}() does not take {told}.", node.at)

    def _loop(self, node: Loop) -> Typed:
        source = self.typed(node.source)
        if source.type not in _ITEMS:
            raise ExpressionError(f"{node.macro}() runs over a list, and this is {_told(source)}.", node.at)
        if node.variable in VARIABLES or node.variable in self._bound:
            raise ExpressionError(f"The name {node.variable} is taken.", node.at)
        self._bound[node.variable] = _item_of(source)
        tests = node.bodies[:-1] if node.macro == "map" else node.bodies
        bodies = [self._truth(test) for test in tests]
        result = self.typed(node.bodies[-1]) if node.macro == "map" else None
        del self._bound[node.variable]
        turn = _LOOP_COST_UNITS + sum(body.cost for body in bodies) + (result.cost if result else 0)
        if node.macro in ("all", "exists", "exists_one"):
            return Typed("bool", 1 + source.cost + source.size * turn)
        cost = 1 + source.cost + source.size * (turn + source.size // _ITEMS_COPIED_PER_UNIT)
        if result is None:
            return source._replace(cost=cost)
        kind: Type = _LISTS.get(result.type, "list")
        return Typed(kind, cost, result.low, result.high, source.size, result.weight * _CHARS_PER_UNIT)


def _told(found: Typed) -> str:
    return _NAMES[found.type]


def _dynamic(cost: int) -> Typed:
    return Typed("dyn", cost, size=limits.ATTRIBUTE_CHARS_MAX)


def _constant(value: bool | int | float | str | None) -> Typed:
    if value is None:
        return Typed("null", 1)
    if isinstance(value, bool):
        return Typed("bool", 1)
    if isinstance(value, int):
        return Typed("int", 1, value, value)
    if isinstance(value, float):
        return Typed("double", 1)
    return Typed("string", 1, size=len(value))


def _item_of(found: Typed) -> Typed:
    kind = _ITEMS[found.type]
    return Typed(kind, 1, found.low, found.high, found.item_size if kind != "dyn" else limits.ATTRIBUTE_CHARS_MAX)


def _either(found: list[Typed], kind: Type) -> Typed:
    """What holds for each of them."""
    return Typed(
        kind,
        1 + sum(one.cost for one in found),
        min(one.low for one in found),
        max(one.high for one in found),
        max(one.size for one in found),
        max(one.item_size for one in found),
    )


def _list_of(items: list[Typed]) -> Typed:
    if not items:
        return Typed("list", 1, size=0)
    kinds = {item.type for item in items}
    kind: Type = _LISTS.get(items[0].type, "list") if len(kinds) == 1 else "list"
    either = _either(items, kind)
    weight = max(item.weight for item in items)
    return either._replace(size=len(items), item_size=max(either.size, weight * _CHARS_PER_UNIT))


def _operation(node: Binary, left: Typed, right: Typed) -> Typed:
    if node.operator in ("+", "-", "*", "/", "%"):
        return _arithmetic(node, left, right)
    cost = left.cost + right.cost + 1
    if node.operator == "in":
        item = _ITEMS.get(right.type, "dyn" if right.type == "dyn" else None)
        if item is not None and _comparable(left.type, item):
            per_item = 1 + min(left.weight, right.item_size // _CHARS_PER_UNIT)
            items = right.size if right.type in _ITEMS else limits.ATTRIBUTE_VALUES_MAX
            return Typed("bool", cost + items * per_item)
    elif node.operator in ("==", "!="):
        if _comparable(left.type, right.type):
            return Typed("bool", cost + min(left.weight, right.weight))
    elif {left.type, right.type} <= {*_NUMBERS, "dyn"} or {left.type, right.type} <= {"string", "dyn"}:
        return Typed("bool", cost + min(left.weight, right.weight))
    raise ExpressionError(f"{node.operator} does not take {_told(left)} and {_told(right)}.", node.at)


def _comparable(left: Type, right: Type) -> bool:
    both = {left, right}
    return len(both) == 1 or "dyn" in both or both <= _NUMBERS or both <= set(_ITEMS)


def _arithmetic(node: Binary, left: Typed, right: Typed) -> Typed:
    cost = left.cost + right.cost + 1
    kinds = {left.type, right.type}
    known = kinds - {"dyn"}
    if not known:
        return _dynamic(cost + left.weight + right.weight)
    if known == {"int"}:
        if node.operator in ("/", "%") and right.low == right.high == 0:
            raise ExpressionError("This divides by zero.", node.at)
        low, high = (INT64_MIN, INT64_MAX) if "dyn" in kinds else _bounds(node.operator, left, right)
        return Typed("int", cost, low, high)
    if known == {"double"} and node.operator != "%":
        return Typed("double", cost)
    if node.operator == "+" and known == {"string"}:
        return Typed("string", cost + left.weight + right.weight, size=left.size + right.size)
    if node.operator == "+" and known <= set(_ITEMS) and "dyn" not in kinds:
        kind: Type = left.type if len(known) == 1 else "list"
        joined = _either([left, right], kind)
        return joined._replace(cost=cost + left.size + right.size, size=left.size + right.size)
    raise ExpressionError(f"{node.operator} does not take {_told(left)} and {_told(right)}.", node.at)


def _bounds(operator: str, left: Typed, right: Typed) -> tuple[int, int]:
    """The least and the greatest result, as if numbers had no end: beyond 64 bits CEL reports an overflow instead."""
    if operator == "+":
        return left.low + right.low, left.high + right.high
    if operator == "-":
        return left.low - right.high, left.high - right.low
    if operator == "*":
        corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
        return min(corners), max(corners)
    most = max(abs(left.low), abs(left.high))
    if operator == "%":
        most = min(most, max(abs(right.low), abs(right.high)) - 1)
    return (0 if left.low >= 0 and right.low > 0 else -most), most
