"""Conditions and amounts: CEL expressions, checked and compiled once, run on moments.

Rules:
1. What passes `compile_condition` and `compile_amount` is CEL and runs within the bounds of `rules.limits`; whether it
   gives a value may still depend on the moment (a missing attribute, a division by zero, an overflow).
2. CEL's own engine has the last word. Where Python does the same (`rules.expression_python`), Python does it, because
   calling the engine takes longer than all else that a check-in does.
3. A failure at run time is `EvaluationFailed` with one of the reasons below, never the engine's own text: it is
   journaled, and has to be the same when it is computed again.

| reason | what happened |
| --- | --- |
| `key_missing` | an attribute is not there; ask `has(member.attributes.key)` first |
| `index_out_of_range` | a list is not that long |
| `division_by_zero` | or the rest of one |
| `overflow` | a whole number beyond 64 bits |
| `type_mismatch` | an attribute is not of the kind that the expression takes it for, or the result is not |
| `amount_out_of_range` | an amount below 0 or above `POINTS_PER_AWARD_MAX` |
| `attribute_too_large` | CEL would have to look at an attribute with more than `ATTRIBUTE_VALUES_MAX` values in it |
| `not_computable` | anything else, such as a number that CEL cannot hold |
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Literal

import cel
import msgspec

from rules.environment import VARIABLES
from rules.expression_parser import parse
from rules.expression_python import ASK_CEL, function_of, to_python
from rules.expression_tree import ExpressionError, line_and_column
from rules.expression_types import Checked, check
from rules.language import Trigger
from rules.limits import ATTRIBUTE_VALUES_MAX, COMPILED_EXPRESSIONS_REMEMBERED_MAX, POINTS_PER_AWARD_MAX
from rules.moment import Moment

FailureReason = Literal[
    "key_missing",
    "index_out_of_range",
    "division_by_zero",
    "overflow",
    "type_mismatch",
    "amount_out_of_range",
    "attribute_too_large",
    "not_computable",
]

_REASONS: Final[tuple[tuple[type[BaseException], FailureReason], ...]] = (
    (KeyError, "key_missing"),
    (IndexError, "index_out_of_range"),
    (ZeroDivisionError, "division_by_zero"),
    (OverflowError, "overflow"),
    (TypeError, "type_mismatch"),
    (ValueError, "not_computable"),
    (RuntimeError, "not_computable"),
)
_ENGINE_ERRORS: Final = tuple(kind for kind, _ in _REASONS)
_ENGINE_POSITION: Final = re.compile(r"<input>:(\d+):(\d+): ")


class BadExpression(msgspec.Struct, frozen=True):
    """Why an expression is refused; line and column from 1."""

    message: str
    line: int
    column: int


class EvaluationFailed(Exception):
    """An expression has no value at this moment."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(reason)
        self.reason: Final = reason


class Expression:
    """A compiled expression. `code` is what it is in Python (None: CEL runs it), `cost` its bound in units."""

    def __init__(self, program: cel.Program, checked: Checked) -> None:
        self.code: Final[ast.expr | None] = to_python(checked)
        self.cost: Final = checked.types[checked.root].cost
        self._program = program
        self._fast: Callable[[Moment], Any] | None = function_of(self.code) if self.code is not None else None
        self._attributes = checked.attributes
        names = sorted({name for name, _ in checked.fields})
        self._plan = tuple(
            (name, tuple((key, _getter(name, key)) for other, key in sorted(checked.fields) if other == name))
            for name in names
        )

    def value(self, moment: Moment) -> Any:
        """Raises `EvaluationFailed`."""
        if self._fast is not None:
            try:
                return self._fast(moment)
            except ASK_CEL:
                pass
        return self.value_by_cel(moment)

    def value_by_cel(self, moment: Moment) -> Any:
        """The same by CEL's own engine. Raises `EvaluationFailed`."""
        try:
            return self._program.execute(self._context(moment))
        except _ENGINE_ERRORS as error:
            raise EvaluationFailed(next(reason for kind, reason in _REASONS if isinstance(error, kind))) from error

    def _context(self, moment: Moment) -> dict[str, Any]:
        """What the expression names, and nothing else."""
        context: dict[str, Any] = {name: {key: get(moment) for key, get in fields} for name, fields in self._plan}
        if self._attributes:
            given = moment.member.attributes
            named = {key: given[key] for key in self._attributes if key in given}
            if any(_is_large(value) for value in named.values()):
                raise EvaluationFailed("attribute_too_large")
            context["member"]["attributes"] = named
        return context


class Condition:
    """When a rule applies."""

    def __init__(self, expression: Expression) -> None:
        self.expression: Final = expression

    def holds(self, moment: Moment) -> bool:
        """Raises `EvaluationFailed`."""
        found = self.expression.value(moment)
        if found is True or found is False:
            return found
        raise EvaluationFailed("type_mismatch")


class Amount:
    """How many points a rule gives."""

    def __init__(self, expression: Expression) -> None:
        self.expression: Final = expression

    def points(self, moment: Moment) -> int:
        """From 0 to `POINTS_PER_AWARD_MAX`. Raises `EvaluationFailed`."""
        found = self.expression.value(moment)
        if type(found) is not int:
            raise EvaluationFailed("type_mismatch")
        if not 0 <= found <= POINTS_PER_AWARD_MAX:
            raise EvaluationFailed("amount_out_of_range")
        return found


def compile_condition(text: str, trigger: Trigger) -> Condition | BadExpression:
    """The condition of a rule for `trigger`; must be a truth value, as far as can be known."""
    expression = _compiled(text, trigger, "bool")
    return Condition(expression) if isinstance(expression, Expression) else expression


def compile_amount(text: str, trigger: Trigger) -> Amount | BadExpression:
    """An amount of a rule for `trigger`; must be a whole number, as far as can be known."""
    expression = _compiled(text, trigger, "int")
    return Amount(expression) if isinstance(expression, Expression) else expression


@lru_cache(maxsize=COMPILED_EXPRESSIONS_REMEMBERED_MAX)
def _compiled(text: str, trigger: Trigger, wanted: Literal["bool", "int"]) -> Expression | BadExpression:
    try:
        checked = check(parse(text), trigger)
        found = checked.types[checked.root].type
        if found not in (wanted, "dyn"):
            kind = "true or false" if wanted == "bool" else "a whole number"
            raise ExpressionError(f"The expression must give {kind}.", checked.root.at)
    except ExpressionError as error:
        return BadExpression(error.message, *line_and_column(text, error.at))
    try:
        program = cel.compile(text)
    except ValueError as error:
        # The checks above are meant to leave nothing for this; whatever CEL refuses all the same is refused.
        position = _ENGINE_POSITION.search(str(error))
        line, column = (int(position.group(1)), int(position.group(2))) if position else (1, 1)
        return BadExpression("CEL does not take this.", line, column)
    return Expression(program, checked)


def _is_large(value: Any) -> bool:
    """Whether a JSON value has more than `ATTRIBUTE_VALUES_MAX` values in it, itself included."""
    waiting = [value]
    count = 0
    while waiting and count <= ATTRIBUTE_VALUES_MAX:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return count > ATTRIBUTE_VALUES_MAX


def _getter(variable: str, field: str) -> Callable[[Moment], Any]:
    return attrgetter(".".join(VARIABLES[variable][field].path))
