"""No spelling of an address and no trick with the method leads past the routes (API4, API6): what is not exactly a path
with one of its methods is refused before anybody asks who is calling, and is counted where guesses are."""

from __future__ import annotations

import re

import pytest

from tests.edge.asgi import call
from tests.edge.edge import ADMIN, KEY, FakeEdge, bearer
from tests.security.surface import Operation, Surface

EDGE = FakeEdge()
SURFACE = Surface(EDGE.app)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "post", "PROPFIND")
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
REWRITES = ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path")
BY_PATH: dict[str, list[Operation]] = {}
for operation in SURFACE.operations:
    BY_PATH.setdefault(operation.path, []).append(operation)
each_path = pytest.mark.parametrize("path", BY_PATH)


def real(path: str) -> str:
    """The path with ids that could be some."""
    return re.sub(r"\{[a-z_]+\}", "abc_1", path)


def variants(path: str) -> set[str]:
    """Other spellings that a proxy, a router or a case-blind file system might take for the same."""
    first, _, rest = path[1:].partition("/")
    found = {
        path + "/", path + "//", "/" + path, path.upper(), path.swapcase(), path + ".json", path + ";x=1", path + "%20",
        path + "%00", path + "\x00", path + "%2f", path + "#x", path + "\\", path + " ", path + "\u200b", path + "\n",
        f"/{first}//{rest}", f"/./{first}/{rest}", f"/x/../{first}/{rest}", f"/{first}/../{first}/{rest}",
        f"/{first}%2f{rest}", f"/{first};/{rest}", f"/{first.capitalize()}/{rest}", f"/api{path}", f"/v2/{rest}",
        f"//127.0.0.1{path}", f"http://127.0.0.1{path}", path.replace("/", "\\"), path.replace(":", "%3a", 1),
    }  # fmt: skip
    return found - {path}


def operations_at(path: str) -> list[Operation]:
    """What a path leads to (an id may be anything that looks like one, a word of another path too)."""
    patterns = {known: re.sub(r"\\{[a-z_]+\\}", "[A-Za-z0-9_.-]{1,64}", re.escape(known)) for known in BY_PATH}
    return [each for known, found in BY_PATH.items() if re.fullmatch(patterns[known], path) for each in found]


@each_path
async def test_other_spellings_are_no_paths(path: str) -> None:
    tried = 0
    for variant in variants(real(path)):
        if operations_at(variant):
            continue
        tried += 1
        for operation in BY_PATH[path]:
            for token in (KEY, ADMIN, ""):
                EDGE.engine.messages.clear()
                answer = await call(EDGE.app, operation.method, variant, None, bearer(token) if token else {})
                assert 400 <= answer.status < 500, (operation.method, variant, answer.status)
                assert EDGE.engine.messages == []
    assert tried > 20


@each_path
async def test_other_methods_are_refused_and_the_right_ones_named(path: str) -> None:
    own = {operation.method for operation in operations_at(real(path))}
    allowed = own | {"OPTIONS"} | ({"HEAD"} if "GET" in own else set())
    for method in set(METHODS) - allowed:
        EDGE.engine.messages.clear()
        answer = await call(EDGE.app, method, real(path), b"{}", bearer(KEY))
        assert answer.status == 405, (method, path)
        assert not answer.body if method == "HEAD" else answer.json()["code"] == "method_not_allowed"
        assert {each.strip() for each in answer.headers["allow"].split(",")} == allowed
        assert EDGE.engine.messages == []
    options = await call(EDGE.app, "OPTIONS", real(path))
    assert (options.status, options.body) == (204, b"")


@pytest.mark.parametrize("name", [*OVERRIDES, *REWRITES])
async def test_headers_do_not_change_what_is_asked(name: str) -> None:
    """A caller who may only scan asks for something harmless, and in a header for something else."""
    value = "DELETE" if name in OVERRIDES else "/v1/orgs/org_a"
    plain = await call(EDGE.app, "GET", "/v1/devices/dev_1", None, bearer(KEY))
    tricked = await call(EDGE.app, "GET", "/v1/devices/dev_1", None, {**bearer(KEY), name: value})
    assert tricked.status == plain.status
    posted = await call(EDGE.app, "POST", "/v1/orgs/org_a", b"{}", {**bearer(KEY), "X-HTTP-Method-Override": "PATCH"})
    assert posted.status == 405


async def test_a_method_in_the_query_or_the_body_is_no_method() -> None:
    for address in ("/v1/orgs/org_a?_method=PATCH", "/v1/orgs/org_a?method=DELETE"):
        answer = await call(EDGE.app, "POST", address, {"_method": "PATCH", "name": "x"}, bearer(KEY))
        assert answer.status == 405
