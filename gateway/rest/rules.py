"""An organisation's rules: "if this, then that" as JSON documents (`rules.document`), their versions, and templates.

Rules:
1. A document is read here: what is wrong is told all at once, each with a JSON pointer, within an expression with line
   and column, too. What depends on the organisation's other rules the engine decides.
2. A rule's version grows with each change; effects cite it. Its `ETag` says what it is, whatever the version.
3. What a rule gave so far is the engine's count (`points_given`); it is not part of the rule.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Response

from actors.queries import GetRules
from actors.refusals import RULE_INVALID, RULE_UNKNOWN
from actors.replies import RulesView
from actors.rule_admin import fault_of
from actors.rule_commands import DeleteRule, SaveRule
from actors.rule_facts import RuleDeleted, RuleSaved
from actors.versions import rule_version
from gateway import limits
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Cursor, Limit, PathId, View
from gateway.rest.preconditions import Copied, Editing, tag_of
from rules.document import DocumentError, document_of, parse_rule
from rules.document_schema import RULE_SCHEMA
from rules.language import RuleDefinition
from rules.templates import TEMPLATES, fill
from storage import rule_lists
from storage.logs import BIGINT_MAX
from storage.rule_lists import VersionRow

RuleReader = Annotated[Call, Depends(Allowed("rules.read"))]
RuleWriter = Annotated[Call, Depends(Allowed("rules.change"))]
VersionNumber = Annotated[int, Path(ge=1, le=BIGINT_MAX)]
router = APIRouter(prefix="/v1/rules", tags=["rules"])


class FailureView(View):
    """How a rule failed: at which of its expressions or actions (`when`, `then/0`, …), and why. What happened stood. It
    is noted once a day for each version."""

    version: int
    at: str
    where: str
    reason: str


class RuleView(View):
    """A rule. `points_given` is what it gave so far, less what came back; `last_failure` is null for one that never
    failed."""

    id: str
    version: int
    rule: dict[str, Any]
    points_given: int
    last_failure: FailureView | None


class VersionView(View):
    """A version of a rule, and when it was saved."""

    version: int
    at: str
    rule: dict[str, Any]


class VersionPage(View):
    """Versions, newest first."""

    items: list[VersionView]
    next_cursor: str | None
    stale: bool


class RulesListView(View):
    """All rules, in the order of their ids."""

    items: list[RuleView]


class RuleBody(Body):
    """The rule, as GET /v1/rules/schema describes it."""

    rule: dict[str, Any]


class ParametersBody(Body):
    """Values of a template's parameters, by their names."""

    values: dict[str, Any]


class StateBody(Body):
    """Whether the rule applies."""

    state: Literal["draft", "active", "paused"]


class TemplateView(View):
    """A ready-made rule; `parameters` are what `fill` takes."""

    id: str
    title: str
    description: str
    parameters: dict[str, Any]
    rule: dict[str, Any]


class TemplatesView(View):
    """All templates."""

    items: list[TemplateView]


class FilledView(View):
    """A document to save as a rule."""

    rule: dict[str, Any]


@router.get("", summary="All rules")
async def list_rules(call: RuleReader) -> RulesListView:
    """As they are now."""
    view = await call.query(GetRules(call.tenant_id), RulesView)
    return RulesListView(items=[_shown(rule, view) for rule in view.rules])


@router.post("", status_code=201, summary="Make a rule")
async def make_rule(call: RuleWriter, body: RuleBody, response: Response) -> RuleView:
    """A draft unless the document says another state."""
    definition = read_rule(body.rule, derived_id("rule", call.tenant_id, call.request_id))
    fact = await _told(call, SaveRule(call.tenant_id, call.request_id, b"", definition, True))
    response.headers["ETag"] = tag_of(rule_version(fact.definition))
    return _shown(fact.definition, RulesView((), {}))


@router.get("/schema", summary="The JSON schema of rules")
async def schema(call: RuleReader) -> dict[str, Any]:
    """JSON Schema 2020-12."""
    return dict(RULE_SCHEMA)


@router.get("/templates", summary="Ready-made rules")
async def templates(call: RuleReader) -> TemplatesView:
    """Each with the parameters that it leaves open."""
    return TemplatesView(
        items=[
            TemplateView(
                id=one.template_id,
                title=one.title,
                description=one.description,
                parameters=msgspec.to_builtins(one.parameters),
                rule=one.rule,
            )
            for one in TEMPLATES.values()
        ]
    )


@router.post("/templates/{template_id}/fill", summary="Make a document of a template")
async def fill_template(template_id: PathId, body: ParametersBody, call: RuleWriter) -> FilledView:
    """With these values of its parameters, and the defaults for the others. Nothing is saved."""
    template = TEMPLATES.get(template_id)
    if template is None:
        raise Problem("template_unknown")
    filled = fill(template, body.values)
    if isinstance(filled, tuple):
        raise malformed_rule(filled, "#/values")
    return FilledView(rule=filled)


@router.get("/{rule_id}", summary="A rule")
async def get_rule(rule_id: PathId, call: RuleReader, copied: Copied) -> RuleView:
    """As it is now."""
    rule, view = await found_rule(call, rule_id)
    failed = view.failures.get(rule_id)
    copied.tagged(tag_of(rule_version(rule), view.points.get(rule_id, 0), failed.at_ms if failed else 0))
    return _shown(rule, view)


@router.put("/{rule_id}", summary="Change a rule")
async def change_rule(rule_id: PathId, body: RuleBody, call: RuleWriter, edit: Editing) -> RuleView:
    """The whole document, which becomes the next version."""
    return await _saved(call, read_rule(body.rule, rule_id), edit)


@router.post("/{rule_id}/state", summary="Activate or pause a rule")
async def set_state(rule_id: PathId, body: StateBody, call: RuleWriter, edit: Editing) -> RuleView:
    """The same document in another state, which is a version, too."""
    rule, _ = await found_rule(call, rule_id)
    return await _saved(call, msgspec.structs.replace(rule, state=body.state, version=0), edit)


@router.delete("/{rule_id}", status_code=204, summary="Delete a rule")
async def delete_rule(rule_id: PathId, call: RuleWriter, edit: Editing) -> Response:
    """For good. What it gave stays, and so do its versions."""
    await call.tell(DeleteRule(call.tenant_id, call.request_id, b"", rule_id, edit.versions), RuleDeleted)
    return Response(status_code=204)


@router.get("/{rule_id}/versions", summary="A rule's versions")
async def list_versions(
    rule_id: PathId, call: RuleReader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> VersionPage:
    """Newest first, those of a deleted rule, too: whatever a rule did cites the version that did it."""
    is_fresh = await call.is_fresh()
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[VersionRow]:
            return await rule_lists.versions(connection, call.tenant_id, rule_id, after, count)

        scope = ("rule versions", call.tenant_id, rule_id)
        page = await page_of(scope, cursor, limit, read, lambda row: str(row.definition.version))
    if not page.rows and cursor is None and is_fresh:
        raise Problem(RULE_UNKNOWN)
    items = [_version(row) for row in page.rows]
    return VersionPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{rule_id}/versions/{version}", summary="A version of a rule")
async def get_version(rule_id: PathId, version: VersionNumber, call: RuleReader) -> VersionView:
    """As it was saved then."""
    await call.is_fresh()
    async with call.cold.connection() as connection:
        row = await rule_lists.version(connection, call.tenant_id, rule_id, version)
    if row is None:
        raise Problem(RULE_UNKNOWN)
    return _version(row)


def _version(row: VersionRow) -> VersionView:
    return VersionView(version=row.definition.version, at=rfc3339(row.at_ms), rule=document_of(row.definition))


async def found_rule(call: Call, rule_id: str) -> tuple[RuleDefinition, RulesView]:
    """The rule, and all that is known of the organisation's. Raises `Problem`."""
    view = await call.query(GetRules(call.tenant_id), RulesView)
    for rule in view.rules:
        if rule.rule_id == rule_id:
            return rule, view
    raise Problem(RULE_UNKNOWN)


async def _told(call: Call, command: SaveRule) -> RuleSaved:
    """What the engine made of it; where it says what of the document is not possible, that is told as here."""
    try:
        return await call.tell(command, RuleSaved)
    except Problem as problem:
        pointer, _, message = problem.detail.partition(": ")
        if problem.code != RULE_INVALID or not pointer.startswith("/"):
            raise
        raise malformed_rule((DocumentError(pointer, message),)) from problem


async def _saved(call: Call, definition: RuleDefinition, edit: Editing) -> RuleView:
    command = SaveRule(call.tenant_id, call.request_id, b"", definition, False, edit.versions)
    fact = await _told(call, command)
    edit.tagged(tag_of(rule_version(fact.definition)))
    view = await call.query(GetRules(call.tenant_id), RulesView)
    return _shown(fact.definition, view)


def read_rule(document: dict[str, Any], rule_id: str) -> RuleDefinition:
    """What a document says (rule 1). Raises `Problem`."""
    found = parse_rule(document, rule_id, 0)
    if isinstance(found, tuple):
        raise malformed_rule(found)
    pointer, _, message = fault_of(found).partition(": ")
    if pointer:
        raise malformed_rule((DocumentError(pointer, message),))
    return found


def malformed_rule(errors: tuple[DocumentError, ...], base: str = "#/rule") -> Problem:
    """What tells the errors of a document that stands at `base` in the body."""
    told = [
        FieldError(
            f"{error.message} (line {error.line}, column {error.column})" if error.line else error.message,
            pointer=f"{base}{error.pointer}",
        )
        for error in errors
    ]
    return Problem("malformed", told[0].detail if len(told) == 1 else "", told)


def _shown(rule: RuleDefinition, view: RulesView) -> RuleView:
    failed = view.failures.get(rule.rule_id)
    return RuleView(
        id=rule.rule_id,
        version=rule.version,
        rule=document_of(rule),
        points_given=view.points.get(rule.rule_id, 0),
        last_failure=FailureView(
            version=failed.version, at=rfc3339(failed.at_ms), where=failed.where, reason=failed.reason
        )
        if failed is not None
        else None,
    )
