"""The project's rules about its own code, kept by a machine.

Each rule is one function from a module to its violations. It is checked on every module of ours, and on bad samples
that must fail, so that no rule passes because it looks at nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("rules", "actors", "storage", "gateway", "serve", "loadtest")  # each may import those before it
PURE_LAYERS = ("rules", "actors")
IMPURE_BY_DESIGN = "actors/host.py"
IMPURE_MODULES = frozenset(
    {
        "ray",
        "redis",
        "asyncpg",
        "asyncio",
        "time",
        "random",
        "uuid",
        "os",
        "socket",
        "secrets",
        "threading",
        "subprocess",
    }
)
CLOCK_METHODS = frozenset({"now", "utcnow", "today"})  # of datetime and date
ENVIRONMENT_READER = "serve/settings.py"
ENVIRONMENT_NAMES = frozenset({"environ", "environb", "getenv", "getenvb", "putenv"})
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")  # in pieces, so that this file passes its own rule


@dataclass
class Module:
    """A Python file: its path from the project's root, in `/`, and its text."""

    path: str
    source: str

    @property
    def layer(self) -> str:
        return self.path.split("/")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)


Violations = Iterator[str]
Rule = Callable[[Module], Violations]


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Line and top-level name of all that the module imports, also inside functions; relative means its own layer."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, module.layer if node.level else (node.module or "").split(".")[0]


def imports_point_down(module: Module) -> Violations:
    """`rules ← actors ← storage ← gateway ← serve ← loadtest`: `rules` imports nothing of ours, none imports tests."""
    if module.layer not in LAYERS:
        return
    allowed = LAYERS[: LAYERS.index(module.layer) + 1]
    for line, name in imports(module):
        if name in (*LAYERS, "tests") and name not in allowed:
            yield f"{module.path}:{line} imports {name}, which lies above {module.layer}"


def pure_code_does_no_io(module: Module) -> Violations:
    """`rules/` and `actors/` import no I/O, clock or randomness, and ask no `datetime` for the time."""
    if module.layer not in PURE_LAYERS or module.path == IMPURE_BY_DESIGN:
        return
    for line, name in imports(module):
        if name in IMPURE_MODULES:
            yield f"{module.path}:{line} imports {name}: time, ids and I/O come from the host"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCK_METHODS and root_name(node) in {"datetime", "date"}:
            yield f"{module.path}:{node.lineno} reads the clock"


def root_name(node: ast.expr) -> str:
    """`datetime` of `datetime.datetime.now`; empty if it does not begin with a name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def only_settings_reads_the_environment(module: Module) -> Violations:
    """Reading is for the settings alone; writing for a child to read (`os.environ["RAY_…"] = …`) is for `serve/`."""
    if module.path == ENVIRONMENT_READER or module.layer not in LAYERS:
        return
    written = set(written_attributes(module)) if module.layer == "serve" else set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT_NAMES and root_name(node) == "os":
            if node not in written:
                yield f"{module.path}:{node.lineno} uses os.{node.attr}; only {ENVIRONMENT_READER} may"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in ENVIRONMENT_NAMES:
                    yield f"{module.path}:{node.lineno} imports os.{alias.name}; only {ENVIRONMENT_READER} may"


def written_attributes(module: Module) -> Iterator[ast.expr]:
    """The `a.b` of every `a.b[…] = …`, `del a.b[…]` and `a.b.update(…)`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            yield node.func.value


def functions_are_short(module: Module) -> Violations:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{module.path}:{node.lineno} {node.name} has {lines} lines, the most is {FUNCTION_LINES_MAX}"


def files_are_short(module: Module) -> Violations:
    lines = len(module.source.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{module.path} has {lines} lines, the most is {FILE_LINES_MAX}"


def nothing_is_left_unfinished(module: Module) -> Violations:
    for number, line in enumerate(module.source.splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"{module.path}:{number} is unfinished: {line.strip()}"


def no_catch_all(module: Module) -> Violations:
    """No bare `except`, no `except Exception` (alone or among others), no `suppress(Exception)`."""
    for node in ast.walk(module.tree):
        caught: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"{module.path}:{node.lineno} catches everything"
            else:
                caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            caught = node.args
        for kind in caught:
            if ast.unparse(kind).split(".")[-1] == "Exception":
                yield f"{module.path}:{kind.lineno} catches Exception: name what can happen here"


def every_module_says_what_it_is_for(module: Module) -> Violations:
    if not (ast.get_docstring(module.tree) or "").strip():
        yield f"{module.path} has no docstring"


def our_modules() -> list[Module]:
    paths = (
        path for top in (*LAYERS, "tests") for path in (ROOT / top).rglob("*.py") if "__pycache__" not in path.parts
    )
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(paths)]


def violations(rule: Rule) -> list[str]:
    return [violation for module in our_modules() for violation in rule(module)]


def test_imports_point_down() -> None:
    assert violations(imports_point_down) == []


def test_pure_code_does_no_io() -> None:
    assert violations(pure_code_does_no_io) == []


def test_only_settings_reads_the_environment() -> None:
    assert violations(only_settings_reads_the_environment) == []


def test_functions_are_short() -> None:
    assert violations(functions_are_short) == []


def test_files_are_short() -> None:
    assert violations(files_are_short) == []


def test_nothing_is_left_unfinished() -> None:
    assert violations(nothing_is_left_unfinished) == []


def test_no_catch_all() -> None:
    assert violations(no_catch_all) == []


def test_every_module_says_what_it_is_for() -> None:
    assert violations(every_module_says_what_it_is_for) == []


def test_all_layers_are_looked_at() -> None:
    assert {module.layer for module in our_modules()} == {*LAYERS, "tests"}


BAD = [
    (imports_point_down, "rules/a.py", "import actors"),
    (imports_point_down, "rules/a.py", "from storage.journal import Journal"),
    (imports_point_down, "actors/a.py", "from storage import journal"),
    (imports_point_down, "storage/a.py", "def f():\n    import gateway.http"),
    (imports_point_down, "gateway/a.py", "from serve.settings import Settings"),
    (imports_point_down, "serve/a.py", "import loadtest.capacity as c"),
    (imports_point_down, "loadtest/a.py", "from tests.support import fake"),
    *((pure_code_does_no_io, "actors/card.py", f"import {name}") for name in sorted(IMPURE_MODULES)),
    (pure_code_does_no_io, "rules/a/b.py", "from time import monotonic"),
    (pure_code_does_no_io, "actors/a.py", "import ray.serve as ray_serve"),
    (pure_code_does_no_io, "actors/a.py", "import datetime\nx = datetime.datetime.now(datetime.UTC)"),
    (pure_code_does_no_io, "actors/a.py", "from datetime import date\nx = date.today()"),
    (only_settings_reads_the_environment, "gateway/a.py", "import os\nx = os.environ['A']"),
    (only_settings_reads_the_environment, "serve/cli.py", "import os\nx = os.getenv('A')"),
    (only_settings_reads_the_environment, "storage/a.py", "from os import environ"),
    (only_settings_reads_the_environment, "serve/a.py", "import os\nos.environ['A'] = os.environ['B']"),
    (only_settings_reads_the_environment, "gateway/a.py", "import os\nos.environ['A'] = '1'"),
    (functions_are_short, "rules/a.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (functions_are_short, "tests/a.py", "class A:\n    async def f(self):\n" + "        x = 1\n" * FUNCTION_LINES_MAX),
    (files_are_short, "tests/a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
    (nothing_is_left_unfinished, "rules/a.py", "x = 1  # TO" + "DO: more"),
    (nothing_is_left_unfinished, "tests/a.py", "'''FIX" + "ME later'''"),
    (no_catch_all, "tests/a.py", "try:\n    f()\nexcept:\n    pass"),
    (no_catch_all, "rules/a.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (no_catch_all, "rules/a.py", "try:\n    f()\nexcept (OSError, builtins.Exception) as error:\n    pass"),
    (no_catch_all, "rules/a.py", "import contextlib\nwith contextlib.suppress(Exception):\n    f()"),
    (every_module_says_what_it_is_for, "rules/a.py", "x = 1"),
    (every_module_says_what_it_is_for, "rules/a.py", "''' '''"),
]
GOOD = [
    (imports_point_down, "actors/a.py", "import rules.model\nfrom actors import ids\nfrom . import entry"),
    (imports_point_down, "tests/a.py", "import loadtest\nimport rules"),
    (pure_code_does_no_io, "actors/host.py", "import asyncio, ray"),
    (pure_code_does_no_io, "storage/a.py", "import asyncio, time"),
    (pure_code_does_no_io, "actors/a.py", "import datetime\nfrom actors import time\nx = datetime.timedelta(1)"),
    (only_settings_reads_the_environment, "serve/settings.py", "import os\nx = os.environ"),
    (only_settings_reads_the_environment, "serve/a.py", "import os\nos.environ['A'] = '1'\nos.environ.update(B='1')"),
    (functions_are_short, "rules/a.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
    (files_are_short, "rules/a.py", "x = 1\n" * FILE_LINES_MAX),
    (no_catch_all, "rules/a.py", "try:\n    f()\nexcept (OSError, redis.RedisError):\n    pass"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_each_rule_can_fail(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_no_rule_fails_what_is_allowed(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source))) == []


def test_every_rule_has_a_bad_sample_and_a_test() -> None:
    rules = {function.__name__ for function, _, _ in BAD}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    declared = {
        name for name, value in globals().items() if getattr(value, "__annotations__", {}).get("return") == "Violations"
    }
    assert rules == declared
    assert declared <= tests
