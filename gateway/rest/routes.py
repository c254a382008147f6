"""Which paths there are, with which methods: for 404 and 405, `Allow`, OPTIONS and HEAD, before anything else is done.

(Starlette's own 405 names the methods of the first route with that path only; ours are one route a method.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from gateway.rest.common import anyone

_PUBLIC_PREFIXES = ("/v1/", "/.well-known/")


class Known(msgspec.Struct, frozen=True):
    """A route. `is_public`: it asks nobody who they are, so it is limited by address."""

    template: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    is_public: bool


class RouteTable:
    """The ordinary routes of the edge. The hot ones are not among them."""

    def __init__(self, routers: Iterable[APIRouter], constant_paths: Sequence[str]) -> None:
        self._routes = [
            Known(route.path, route.path_regex, frozenset(route.methods or ()), _is_public(route))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
        ]
        self._routes += [
            Known(path, re.compile(re.escape(path) + r"\Z"), frozenset({"GET"}), False) for path in constant_paths
        ]

    def operations(self) -> set[tuple[str, str]]:
        """Method and path template of each."""
        return {(method, route.template) for route in self._routes for method in route.methods}

    def at(self, path: str) -> list[Known]:
        """The routes with this path; none if there is no such path."""
        # Starlette's patterns end in `$`, which takes a path with a line break behind it for the same.
        if not path.isprintable():
            return []
        return [route for route in self._routes if route.pattern.match(path) is not None]


def methods_of(routes: Iterable[Known]) -> set[str]:
    """All that can be done at the path of these routes."""
    methods = {"OPTIONS"}.union(*(route.methods for route in routes))
    return methods | {"HEAD"} if "GET" in methods else methods


def _is_public(route: APIRoute) -> bool:
    return route.path.startswith(_PUBLIC_PREFIXES) and not _asks_who(route.dependant)


def _asks_who(dependant: Dependant) -> bool:
    return dependant.call is anyone or any(_asks_who(inner) for inner in dependant.dependencies)
