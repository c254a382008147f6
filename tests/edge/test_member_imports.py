"""Importing members: what goes in, what is told of the rest, and that each row goes in once, whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import limits as edge_limits
from gateway.cold import ColdStore
from gateway.jobs import LeaseLost
from gateway.members import imports, limits, store
from gateway.members.csv_file import layout_of, records
from gateway.members.import_work import ImportWork
from tests.edge.asgi import Answer, call
from tests.edge.in_process import System, running_system

PATH = "/v1/members/imports"


async def send(system: System, key: str, body: bytes, mode: str = "create", **more: Any) -> Answer:
    return await system.call("POST", f"{PATH}?mode={mode}", body, key, **{"Content-Type": "text/csv", **more})


async def done(system: System, key: str, body: bytes | str, mode: str = "create", **more: Any) -> Any:
    """An import from start to end, worked on here."""
    answer = await send(system, key, body.encode() if isinstance(body, str) else body, mode, **more)
    assert answer.status == 202, answer.body
    assert answer.json()["state"] == "queued"
    assert await system.app.member_work.imports.one()
    return await system.made("GET", f"{PATH}/{answer.json()['id']}", token=key)


async def report(system: System, key: str, import_id: str) -> list[tuple[int, str | None, str]]:
    answer = await system.call("GET", f"{PATH}/{import_id}/report", token=key)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    return [(line["row"], line["column"], line["reason"]) for line in lines]


def counts(told: Any) -> dict[str, int]:
    return {name: number for name, number in told["progress"].items() if number}


async def members(system: System, key: str) -> list[Any]:
    items: list[Any] = []
    cursor = ""
    while True:
        page = await system.made("GET", f"/v1/members?limit=500{cursor}", token=key)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"


# --- what goes in -----------------------------------------------------------------------------------------------------


async def test_an_import_with_good_and_bad_rows(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    schema = {"type": "object", "properties": {"size": {"type": "integer", "maximum": 50}, "vip": {"type": "boolean"}}}
    await system.made("PUT", f"/v1/orgs/{org['id']}/member-schema", {"schema": schema}, key)
    body = (
        "\ufeffName;E-mail;Phone;Date of birth;external_id;attr.size;attr.vip;consent.photo\r\n"
        "Nguyễn Văn Ánh;anh@example.org;'+84 912 345 678;1990-02-28;C-1;40;yes;true\r\n"
        "\r\n"
        ";nobody@example.org;;;;;;\r\n"
        "Bad;no address;call me;1990-02-30;;;;perhaps\r\n"
        "Big;;;;C-2;99;;\r\n"
        '"Quo\r\nted ""x""";;;;;;;no\r\n'
        "Same;;;;C-1;;;\r\n"
        "Too;many;;;;;;;;;cells\r\n"
    )
    told = await done(system, key, body)
    assert (told["state"], told["mode"], told["reason"]) == ("done", "create", None)
    assert counts(told) == {"rows": 7, "done": 7, "created": 1, "failed": 6}
    assert told["finished_at"] is not None
    failed = await report(system, key, told["id"])
    assert [(row, column) for row, column, _ in failed] == [
        (4, "name"),
        (5, "consent.photo"),
        (5, "email"),
        (5, "phone"),
        (5, "birthday"),
        (6, "attr.size"),
        (7, "name"),
        (8, "external_id"),
        (9, None),
    ]
    (ann,) = await members(system, key)
    assert (ann["name"], ann["email"], ann["phone"]) == ("Nguyễn Văn Ánh", "anh@example.org", "+84 912 345 678")
    assert (ann["birthday"], ann["external_id"], ann["attributes"]) == ("1990-02-28", "C-1", {"size": 40, "vip": True})
    assert ann["consents"]["photo"]["source"] == "import"
    as_csv = await system.call("GET", f"{PATH}/{told['id']}/report", token=key, Accept="text/csv")
    assert as_csv.body.decode().splitlines()[:2] == ["row,column,reason", f"4,name,{failed[0][2]}"]
    kept = await system.parts.pool.fetchval("SELECT count(*) FROM member_import_parts")
    assert kept == 0, "the file is gone"


async def test_an_upsert_changes_what_is_known_and_leaves_what_is_empty(system: System) -> None:
    key = (await system.open_org())["key"]
    first = await done(system, key, "name,email,external_id,attr.a\nAnn,ann@x.org,1,x\nBo,Bo@x.org,,\nCy,cy@x.org,,\n")
    assert counts(first) == {"rows": 3, "done": 3, "created": 3}
    ann = next(member for member in await members(system, key) if member["name"] == "Ann")
    card = await system.made("POST", "/v1/cards", {"member_id": ann["id"]}, key)
    body = (
        "name,email,external_id,attr.b\n"
        "Anna,,1,y\n"  # by external id, though the address is not told
        ",bo@X.org,,z\n"  # by address, in another case; the name stays
        "Cy,cy@x.org,,\n"  # nothing new
        "Di,di@x.org,2,\n"  # not known
        "Dia,di@x.org,2,\n"  # known from the row above
        "Ed,,,\n"  # neither
        ",eve@x.org,,\n"  # not known, and no name
    )
    second = await done(system, key, body, "upsert")
    assert counts(second) == {"rows": 7, "done": 7, "created": 1, "updated": 3, "unchanged": 1, "failed": 2}
    assert [row for row, _, _ in await report(system, key, second["id"])] == [7, 8]
    found = {member["email"]: (member["name"], member["attributes"]) for member in await members(system, key)}
    assert found == {
        "ann@x.org": ("Anna", {"a": "x", "b": "y"}),
        "bo@X.org": ("Bo", {"b": "z"}),
        "cy@x.org": ("Cy", {}),
        "di@x.org": ("Dia", {}),
    }
    await system.made("GET", "/v1/cards", token=key)
    assert await system.app.member_work.names.follow_all()
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=key))["member"]["name"] == "Anna"
    again = await done(system, key, body, "upsert")
    # The same file again changes nothing but what its own rows say twice.
    assert counts(again) == {"rows": 7, "done": 7, "updated": 2, "unchanged": 3, "failed": 2}


async def test_an_address_of_several_members_names_nobody(system: System) -> None:
    key = (await system.open_org())["key"]
    for name in ("Ann", "Bo"):
        await system.made("POST", "/v1/members", {"name": name, "email": "us@x.org"}, key)
    told = await done(system, key, "name,email\nWho,us@x.org\n", "upsert")
    assert await report(system, key, told["id"]) == [
        (2, "email", "Several members have this address: give their external_id.")
    ]


async def test_our_own_export_can_be_imported_again(system: System) -> None:
    one, other = (await system.open_org())["key"], (await system.open_org())["key"]
    await done(system, one, "name,phone,external_id,consent.photo\n'=1+1,'+84 912345678,1,yes\nÁnh,,2,no\n")
    export = (await system.call("GET", "/v1/members", token=one, Accept="text/csv")).body
    body = export.replace(b",attributes\r\n", b",id\r\n")
    told = await done(system, other, body)
    assert counts(told) == {"rows": 2, "done": 2, "created": 2}
    assert sorted(member["name"] for member in await members(system, other)) == ["=1+1", "Ánh"]


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_files_that_are_not_taken(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    for body, word in (
        (b"", "empty"),
        (b"nickname\nx\n", "nickname"),
        (b"\xff\xfe", "UTF-16"),
        (b"name\n" + b"A\n" * 100_001, "100000 rows"),
    ):
        answer = await send(system, key, body)
        assert (answer.status, answer.json()["code"]) == (400, "malformed")
        assert word in answer.json()["errors"][0]["detail"]
    assert (await send(system, key, b"name\nAnn\n", "replace")).status == 400
    wrong_type = await send(system, key, b"name\nAnn\n", **{"Content-Type": "application/json"})
    assert (wrong_type.status, wrong_type.json()["code"]) == (415, "media_type_unsupported")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"}
    announced = await call(system.app, "POST", PATH, headers={**headers, "Content-Length": "20971521"}, chunks=[b""])
    dripped = await call(
        system.app, "POST", PATH, headers=headers, chunks=[b"name\n", *[b"A" * 1_048_575 + b"\n"] * 21]
    )
    for answer in (announced, dripped):
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
    assert (
        await call(system.app, "POST", PATH, headers={"Content-Type": "text/csv"}, chunks=[b"name\n"])
    ).status == 401
    assert (await system.made("GET", PATH, token=key))["items"] == []
    with system.app.member_work.uploads.one(), system.app.member_work.uploads.one():
        busy = await send(system, key, b"name\nAnn\n")
    assert (busy.status, busy.json()["code"]) == (429, "overloaded")


async def test_a_retry_finds_the_same_import_and_there_is_one_at_a_time(system: System) -> None:
    key = (await system.open_org())["key"]
    named = {"Idempotency-Key": "import-1"}
    first = await send(system, key, b"name\nAnn\n", **named)
    assert (await send(system, key, b"name\nAnn\n", **named)).json() == first.json()
    assert (await send(system, key, b"name\nBo\n", **named)).json()["code"] == "id_reused"
    second = await send(system, key, b"name\nBo\n")
    assert (second.status, second.json()["code"]) == (409, "import_under_way")
    assert await system.app.member_work.imports.one()
    assert (await send(system, key, b"name\nAnn\n", **named)).json()["state"] == "done"
    assert (await send(system, key, b"name\nBo\n")).status == 202
    page = await system.made("GET", f"{PATH}?limit=1", token=key)
    rest = await system.made("GET", f"{PATH}?limit=1&cursor={page['next_cursor']}", token=key)
    assert [item["state"] for item in (*page["items"], *rest["items"])] == ["queued", "done"]
    assert rest["next_cursor"] is None


async def test_cancelling(system: System) -> None:
    key = (await system.open_org())["key"]
    started = (await send(system, key, b"name\nAnn\n")).json()
    cancelled = await system.made("POST", f"{PATH}/{started['id']}/cancel", None, key)
    assert (cancelled["state"], cancelled["finished_at"] is not None) == ("cancelled", True)
    assert not await system.app.member_work.imports.one()
    assert (await system.made("POST", f"{PATH}/{started['id']}/cancel", None, key)) == cancelled
    assert await members(system, key) == []


async def test_another_organisations_import_is_absent(system: System) -> None:
    one, other = (await system.open_org())["key"], (await system.open_org())["key"]
    started = (await send(system, one, b"name\nAnn\n")).json()
    for method, suffix in (("GET", ""), ("GET", "/report"), ("POST", "/cancel")):
        foreign = await system.call(method, f"{PATH}/{started['id']}{suffix}", token=other)
        absent = await system.call(method, f"{PATH}/imp_none{suffix}", token=other)
        assert (foreign.status, foreign.json()["code"]) == (404, "import_unknown")
        assert (absent.status, absent.json()["code"]) == (404, "import_unknown")
    assert (await system.made("GET", PATH, token=other))["items"] == []


# --- dying ------------------------------------------------------------------------------------------------------------

ROWS = 3 * limits.IMPORT_BATCH_ROWS + 7


class Death(BaseException):
    """Like kill -9: nothing is cleaned up."""


def big_file() -> bytes:
    """Every seventh row is bad; the others have no key, so nothing but `done` keeps them from going in twice."""
    return b"name\n" + b"".join(b"Member %d\n" % n if n % 7 else b"bad\x01name\n" for n in range(ROWS))


@asynccontextmanager
async def killed_after(batches: int, *, is_committed: bool, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Whoever works on an import dies in its nth batch, before the commit or right after it."""
    written = 0
    write = ImportWork._write

    async def dying(self: ImportWork, *arguments: Any) -> None:
        nonlocal written
        written += 1
        if written < batches:
            await write(self, *arguments)
            return
        if is_committed:
            await write(self, *arguments)
            raise Death
        with patch.context() as inner:

            async def dead(*_: Any) -> bool:
                raise Death

            inner.setattr(imports, "advance", dead)
            await write(self, *arguments)

    with patch.context() as outer:
        outer.setattr(ImportWork, "_write", dying)
        with suppress(Death):
            yield


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 4])
async def test_another_gateway_goes_on_and_each_row_is_in_once(
    system: System, monkeypatch: pytest.MonkeyPatch, batch: int, is_committed: bool
) -> None:
    key = (await system.open_org())["key"]
    started = (await send(system, key, big_file())).json()
    cold = ColdStore(system.parts.pool, system.parts.clock_ms)
    one, other = (ImportWork(cold, name, system.parts.clock_ms) for name in ("gw_one", "gw_other"))
    async with killed_after(batch, is_committed=is_committed, patch=monkeypatch):
        await one.one()
    told = await system.made("GET", f"{PATH}/{started['id']}", token=key)
    assert told["state"] == "running"
    assert told["progress"]["done"] == min(ROWS, limits.IMPORT_BATCH_ROWS * (batch if is_committed else batch - 1))
    assert not await other.one(), "the lease holds"
    await system.parts.pool.execute("UPDATE member_imports SET lease_until_ms = 0")
    assert await other.one()
    told = await system.made("GET", f"{PATH}/{started['id']}", token=key)
    bad = len(range(0, ROWS, 7))
    assert counts(told) == {"rows": ROWS, "done": ROWS, "created": ROWS - bad, "failed": bad}
    names = [member["name"] for member in await members(system, key)]
    assert sorted(names) == sorted(f"Member {n}" for n in range(ROWS) if n % 7)
    rows = [row for row, _, _ in await report(system, key, started["id"])]
    assert rows == [n + 2 for n in range(0, ROWS, 7)]


async def test_who_slept_through_the_lease_writes_nothing(system: System) -> None:
    key = (await system.open_org())["key"]
    await send(system, key, big_file())
    cold = ColdStore(system.parts.pool, system.parts.clock_ms)
    sleeper, other = (ImportWork(cold, name, system.parts.clock_ms) for name in ("gw_sleeper", "gw_other"))
    async with cold.connection() as connection:
        leased = await imports.JOBS.lease(connection, "gw_sleeper")
    assert leased is not None
    layout = layout_of(big_file())
    batch = list(records([big_file()], layout))[: limits.IMPORT_BATCH_ROWS]
    await system.parts.pool.execute("UPDATE member_imports SET lease_until_ms = 0")
    async with cold.connection() as connection:
        assert await imports.JOBS.lease(connection, "gw_other") is not None
    with pytest.raises(LeaseLost):
        await sleeper._batch(leased, layout, batch)
    assert await members(system, key) == [], "the batch is rolled back as a whole"
    assert await other.one()
    with pytest.raises(LeaseLost):
        await sleeper._batch(leased, layout, batch)
    page = await system.made("GET", PATH, token=key)
    assert page["items"][0]["progress"]["done"] == ROWS


async def test_a_gateway_that_stops_gives_the_lease_back(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    await send(system, key, big_file())
    cold = ColdStore(system.parts.pool, system.parts.clock_ms)
    reached = asyncio.Event()

    async def stuck(self: ImportWork, *_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(ImportWork, "_write", stuck)
        working = asyncio.create_task(ImportWork(cold, "gw_one", system.parts.clock_ms).one())
        await reached.wait()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    assert await ImportWork(cold, "gw_other", system.parts.clock_ms).one()


async def test_an_import_that_is_cancelled_in_the_middle_stops(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    started = (await send(system, key, big_file())).json()
    write = ImportWork._write

    async def cancelled_after_the_first(self: ImportWork, *arguments: Any) -> None:
        await write(self, *arguments)
        monkeypatch.undo()
        await system.made("POST", f"{PATH}/{started['id']}/cancel", None, key)

    monkeypatch.setattr(ImportWork, "_write", cancelled_after_the_first)
    assert await system.app.member_work.imports.one()
    told = await system.made("GET", f"{PATH}/{started['id']}", token=key)
    assert (told["state"], told["progress"]["done"]) == ("cancelled", limits.IMPORT_BATCH_ROWS)


async def test_an_external_id_that_somebody_takes_meanwhile(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    started = (await send(system, key, b"name,external_id\nAnn,1\n", "upsert")).json()
    add, is_first = store.add, True

    async def too_late(*arguments: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            await system.made("POST", "/v1/members", {"name": "Quick", "external_id": "1"}, key)
        return await add(*arguments)

    monkeypatch.setattr(store, "add", too_late)
    assert await system.app.member_work.imports.one()
    told = await system.made("GET", f"{PATH}/{started['id']}", token=key)
    assert counts(told) == {"rows": 1, "done": 1, "updated": 1}
    assert [member["name"] for member in await members(system, key)] == ["Ann"]


async def test_the_background_work_is_woken(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    looked, ended = asyncio.Event(), asyncio.Event()
    end, one = ImportWork._end, ImportWork.one

    async def noted_look(self: ImportWork) -> bool:
        found = await one(self)
        looked.set()
        return found

    async def noted_end(self: ImportWork, *arguments: Any) -> None:
        await end(self, *arguments)
        ended.set()

    monkeypatch.setattr(ImportWork, "one", noted_look)
    monkeypatch.setattr(ImportWork, "_end", noted_end)
    monkeypatch.setattr(edge_limits, "JOB_POLL_MS", 3_600_000)
    running = asyncio.create_task(system.app.member_work.run())
    try:
        await looked.wait()
        started = (await send(system, key, b"name\nAnn\n")).json()
        async with asyncio.timeout(30):
            await ended.wait()
        assert (await system.made("GET", f"{PATH}/{started['id']}", token=key))["state"] == "done"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


# --- garbage ----------------------------------------------------------------------------------------------------------

PIECES = [
    b"name",
    b"email",
    b"external_id",
    b"attr.a",
    b"consent.photo",
    b",",
    b";",
    b'"',
    b"\n",
    b"\r\n",
    b"\xff",
    b"\0",
]
WORDS = [b"Ann", b"a@x.org", "Ánh".encode(), b"'=1", b"1990-02-30", b"true", b"\xed\xa0\x80", b"[", b"9" * 400, b"\t"]


def test_no_file_is_an_error_of_ours(migrated_database: str) -> None:
    """Whatever is sent: it is refused with a reason, or every row is created or has a reason."""

    async def run(bodies: list[tuple[bytes, str]]) -> None:
        async with running_system(migrated_database) as system:
            for body, mode in bodies:
                key = (await system.open_org())["key"]
                answer = await send(system, key, body, mode)
                assert answer.status in (202, 400), answer.body
                if answer.status == 400:
                    assert answer.json()["errors"]
                    continue
                assert await system.app.member_work.imports.one()
                told = await system.made("GET", f"{PATH}/{answer.json()['id']}", token=key)
                progress = told["progress"]
                assert (told["state"], progress["done"]) == ("done", progress["rows"])
                ended = progress["created"] + progress["updated"] + progress["unchanged"] + progress["failed"]
                assert ended == progress["rows"]
                failed = {row for row, _, _ in await report(system, key, told["id"])}
                assert len(failed) == progress["failed"]
                assert len(await members(system, key)) == progress["created"]

    files: list[tuple[bytes, str]] = []
    head = st.sampled_from([b"name,email,external_id,attr.a,consent.photo\n", b"name;email\r\n", b"email\n", b""])
    body = st.lists(st.sampled_from([*PIECES, *WORDS]), max_size=40).map(b"".join)

    @given(head, body, st.sampled_from(["create", "upsert"]))
    @settings(max_examples=120, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def collect(first: bytes, rest: bytes, mode: str) -> None:
        files.append((first + rest, mode))

    collect()
    asyncio.run(cast(Any, run(files)))
