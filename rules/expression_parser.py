"""From the text of an expression to its tree: the part of CEL that rules may use.

Source: the grammar and the lexis of the Common Expression Language, cel-spec, doc/langdef.md, "Syntax".

Rules:
1. What is taken here is CEL and means what it means there: precedence, escapes, literals. What CEL has beyond it (maps,
   messages, bytes, unsigned numbers, three-fold quotes) is refused by name.
2. Length, count of nodes and depth are bounded before anything else looks at an expression. No text makes this code
   recurse deeper than `EXPRESSION_DEPTH_MAX` asks for.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, get_args

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
    Macro,
    Name,
    Node,
    Select,
    Unary,
)
from rules.limits import EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX

INT64_MAX: Final = 2**63 - 1
MACROS: Final = frozenset(get_args(Macro))
_RELATIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while"),
    }
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n]+|//[^\n]*)+)
  | (?P<number>0x[0-9a-fA-F]+|(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?|[0-9]+)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<text>"(?:[^"\\\r\n]|\\[^\r\n])*"|'(?:[^'\\\r\n]|\\[^\r\n])*')
  | (?P<sign>==|!=|<=|>=|&&|\|\||[<>+\-*/%!?:.,()\[\]])
    """,
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: str  # space, number, name, text, sign, end
    text: str
    at: int


def parse(text: str) -> Node:
    """The tree of an expression. Raises `ExpressionError` for what is not one, or too large."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ExpressionError(f"An expression has at most {EXPRESSION_CHARS_MAX} characters.", EXPRESSION_CHARS_MAX)
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(_unknown(text, at), at)
        kind = match.lastgroup or ""
        if kind in ("number", "name") and tokens and tokens[-1].kind == "number" and _ends_at(tokens[-1], at):
            message = "There are no unsigned numbers." if match.group() in ("u", "U") else "Unexpected letters."
            raise ExpressionError(message, at)
        if kind == "text" and tokens and tokens[-1].kind == "name" and _ends_at(tokens[-1], at):
            raise ExpressionError("Texts have no prefix here: no bytes, no raw texts.", tokens[-1].at)
        if kind == "text" and tokens and tokens[-1].kind == "text" and _ends_at(tokens[-1], at):
            raise ExpressionError("Texts in three-fold quotes are not taken.", tokens[-1].at)
        if kind != "space":
            tokens.append(_Token(kind, match.group(), at))
        at = match.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _ends_at(token: _Token, at: int) -> bool:
    return token.at + len(token.text) == at


def _unknown(text: str, at: int) -> str:
    if text[at] in "\"'":
        return "This text is not closed on its line."
    if text[at] == "{":
        return "Maps and messages are not taken."
    if text[at] in "=&|":
        return f"There is no operator {text[at]}; did you mean {text[at] * 2}?"
    return f"Unexpected character {text[at]!a}."


class _Parser:
    """Recursive descent over tokens; every node is made by `_made`, which counts and measures."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nodes = 0
        self._nesting = 0
        self._depths: dict[Node, int] = {}

    def whole(self) -> Node:
        node = self._expression()
        if self._peek().kind != "end":
            raise self._unexpected()
        return node

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _at_sign(self, *signs: str) -> bool:
        token = self._peek()
        return token.text in signs and token.kind in ("sign", "name")

    def _expect(self, sign: str) -> None:
        if not self._at_sign(sign):
            raise self._unexpected(f"expected {sign}")
        self._take()

    def _unexpected(self, hint: str = "") -> ExpressionError:
        token = self._peek()
        what = "The expression ends too early" if token.kind == "end" else f"Unexpected {token.text[:40]}"
        return ExpressionError(f"{what}{': ' + hint if hint else ''}.", token.at)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _made(self, node: Node, *children: Node) -> Node:
        self._nodes += 1
        if self._nodes > EXPRESSION_NODES_MAX:
            raise ExpressionError(f"An expression has at most {EXPRESSION_NODES_MAX} parts.", node.at)
        depth = 1 + max((self._depths[child] for child in children), default=0)
        if depth > EXPRESSION_DEPTH_MAX:
            raise self._too_deep(node.at)
        self._depths[node] = depth
        return node

    def _too_deep(self, at: int) -> ExpressionError:
        return ExpressionError(f"An expression is at most {EXPRESSION_DEPTH_MAX} parts deep.", at)

    def _expression(self) -> Node:
        self._nesting += 1
        if self._nesting > EXPRESSION_DEPTH_MAX:
            raise self._too_deep(self._peek().at)
        node = self._conditional()
        self._nesting -= 1
        return node

    def _conditional(self) -> Node:
        condition = self._chain("||")
        if not self._at_sign("?"):
            return condition
        at = self._take().at
        then = self._chain("||")
        self._expect(":")
        otherwise = self._expression()
        return self._made(Conditional(at, condition, then, otherwise), condition, then, otherwise)

    def _chain(self, operator: str) -> Node:
        terms = [self._chain_term(operator)]
        at = self._peek().at
        while self._at_sign(operator):
            self._take()
            terms.append(self._chain_term(operator))
        return terms[0] if len(terms) == 1 else self._made(Chain(at, operator, tuple(terms)), *terms)

    def _chain_term(self, operator: str) -> Node:
        return self._chain("&&") if operator == "||" else self._relation()

    def _relation(self) -> Node:
        left = self._sum()
        while self._at_sign(*_RELATIONS):
            left = self._binary(left, self._take(), self._sum())
        return left

    def _sum(self) -> Node:
        left = self._product()
        while self._at_sign("+", "-"):
            left = self._binary(left, self._take(), self._product())
        return left

    def _product(self) -> Node:
        left = self._unary()
        while self._at_sign("*", "/", "%"):
            left = self._binary(left, self._take(), self._unary())
        return left

    def _binary(self, left: Node, operator: _Token, right: Node) -> Node:
        return self._made(Binary(operator.at, operator.text, left, right), left, right)

    def _unary(self) -> Node:
        signs: list[_Token] = []
        while self._at_sign("!", "-") and (not signs or signs[0].text == self._peek().text):
            signs.append(self._take())
        number = self._peek()
        if signs and signs[0].text == "-" and number.kind == "number":
            node = self._members(self._number(self._take(), signs.pop()))
        else:
            node = self._members(self._primary())
        for sign in reversed(signs):
            node = self._made(Unary(sign.at, sign.text, node), node)
        return node

    def _members(self, node: Node) -> Node:
        while self._at_sign(".", "["):
            at = self._take().at
            if self._tokens[self._next - 1].text == "[":
                index = self._expression()
                self._expect("]")
                node = self._made(Index(at, node, index), node, index)
                continue
            field = self._take()
            if field.kind != "name" or field.text in _CONSTANTS or field.text == "in":
                raise ExpressionError("A name must follow the dot.", field.at)
            if self._at_sign("("):
                node = self._call(field, node)
            else:
                node = self._made(Select(field.at, node, field.text), node)
        return node

    def _call(self, function: _Token, target: Node | None) -> Node:
        self._take()
        arguments = self._list_until(")")
        if function.text == "has" and target is None:
            return self._presence(function, arguments)
        if function.text in MACROS and target is not None:
            return self._loop(function, target, arguments)
        around = arguments if target is None else (target, *arguments)
        return self._made(Call(function.at, function.text, target, arguments), *around)

    def _presence(self, function: _Token, arguments: tuple[Node, ...]) -> Node:
        if len(arguments) != 1 or not isinstance(arguments[0], Select):
            raise ExpressionError("has() takes one field, as in has(member.attributes.city).", function.at)
        asked = arguments[0]
        return self._made(Select(asked.at, asked.operand, asked.field, is_test=True), asked.operand)

    def _loop(self, function: _Token, source: Node, arguments: tuple[Node, ...]) -> Node:
        counts = (2, 3) if function.text == "map" else (2,)
        variable = arguments[0] if arguments else None
        if len(arguments) not in counts or not isinstance(variable, Name):
            raise ExpressionError(f"{function.text}() takes a name and an expression.", function.at)
        macro: Macro = function.text  # type: ignore[assignment]  # it is in MACROS
        return self._made(Loop(function.at, macro, source, variable.name, arguments[1:]), source, *arguments[1:])

    def _list_until(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._at_sign(closing):
            if items:
                self._expect(",")
            items.append(self._expression())
        self._take()
        return tuple(items)

    def _primary(self) -> Node:
        token = self._peek()
        if token.kind == "number":
            return self._number(self._take())
        if token.kind == "text":
            self._take()
            return self._made(Constant(token.at, _unescaped(token)))
        if self._at_sign("("):
            self._take()
            node = self._expression()
            self._expect(")")
            return node
        if self._at_sign("["):
            self._take()
            items = self._list_until("]")
            return self._made(ListOf(token.at, items), *items)
        if token.kind != "name" or token.text == "in":
            raise self._unexpected()
        self._take()
        if token.text in _CONSTANTS:
            return self._made(Constant(token.at, _CONSTANTS[token.text]))
        if token.text in _RESERVED:
            raise ExpressionError(f"{token.text} is a reserved word.", token.at)
        if self._at_sign("("):
            return self._call(token, None)
        return self._made(Name(token.at, token.text))

    def _number(self, token: _Token, minus: _Token | None = None) -> Node:
        at = minus.at if minus else token.at
        sign = -1 if minus else 1
        if token.text.startswith("0x"):
            return self._integer(sign * int(token.text, 16), at)
        if token.text.isdigit():
            return self._integer(sign * int(token.text), at)
        number = sign * float(token.text)
        if number in (float("inf"), float("-inf")):
            raise ExpressionError("This number is too large.", at)
        return self._made(Constant(at, number))

    def _integer(self, value: int, at: int) -> Node:
        if not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise ExpressionError("This number is too large: whole numbers have 64 bits.", at)
        return self._made(Constant(at, value))


def _unescaped(token: _Token) -> str:
    def replaced(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise ExpressionError(f"There is no escape \\{code} here.", token.at + 1 + match.start())
        return _ESCAPES[code]

    text = _ESCAPE.sub(replaced, token.text[1:-1])
    if _SURROGATE.search(text):
        raise ExpressionError("Half of a surrogate pair is no character.", token.at)
    return text
