"""The live board in a real browser, against the real socket server with an engine that the test commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from actors.replies import BoardRow, BoardView, ConflictChange, EventFeed, FirstSeen, ScanSummary
from gateway.sockets import codes
from gateway.web.pages import BoardPages
from tests.support.chromium import Page
from tests.support.socket_edge import EVENT, KEY_TOKEN, NOW_MS, TENANT, FakeTopic, SocketEdge, running_edge, until

TOPIC = f"event:{EVENT}"
RANKS = f"leaderboard:points:event:{EVENT}"
BOARD_SCREENSHOT_BYTES_MAX = 200_000
FINISH_ANIMATIONS = (
    "document.getAnimations().forEach(each => each.effect.getTiming().iterations === 1 && each.finish())"
)

# Name, tier, gate, reason ("" admitted, "exit" left), points; the last line is the newest.
SCANS = [
    ("Trần Thu Hà", "silver", "gate_north", "", 10),
    ("Nguyễn Minh Anh", "gold", "gate_north", "", 20),
    ("Pavel Novák", "bronze", "gate_river", "", 10),
    ("Lê Quang Huy", "platinum", "gate_vip", "", 40),
    ("Sofia Marchetti", "gold", "gate_river", "already_admitted", 0),
    ("Phạm Bảo Ngọc", "silver", "gate_north", "", 10),
    ("Daniel Okafor", "diamond", "gate_vip", "", 80),
    ("Vũ Hoàng Long", "bronze", "gate_river", "exit", 0),
    ("", "", "gate_north", "credential_invalid", 0),
    ("Emma Lindqvist", "gold", "gate_north", "", 20),
    ("Đỗ Khánh Linh", "silver", "gate_river", "", 10),
    ("Hugo Bernard", "platinum", "gate_vip", "", 40),
    ("Bùi Gia Hân", "bronze", "gate_north", "card_suspended", 0),
    ("Yuki Tanaka", "gold", "gate_river", "", 20),
]
LEADERS = [
    ("Daniel Okafor", 1_480),
    ("Lê Quang Huy", 1_215),
    ("Hugo Bernard", 1_190),
    ("Nguyễn Minh Anh", 960),
    ("Emma Lindqvist", 905),
    ("Yuki Tanaka", 840),
    ("Sofia Marchetti", 715),
    ("Trần Thu Hà", 690),
    ("Phạm Bảo Ngọc", 655),
    ("Đỗ Khánh Linh", 610),
]


def gala(inside: int, capacity: int = 500, scans: tuple[ScanSummary, ...] = (), refused: int = 23) -> EventFeed:
    return EventFeed(EVENT, "Midnight Gala · Saigon Opera House", inside, inside + 61, refused, capacity, 0, scans)


def summary(number: int) -> ScanSummary:
    name, tier, gate, reason, points = SCANS[number]
    is_refused = reason not in ("", "exit")
    return ScanSummary(
        f"scan-{number}",
        NOW_MS - 7_300 * (len(SCANS) - number),
        not is_refused,
        reason if is_refused else "",
        "exit" if reason == "exit" else "entry",
        f"card_{number}" if name else "",
        name,
        tier,
        gate,
        "dev_1",
        points,
    )


def ranks(leaders: list[tuple[str, int]]) -> BoardView:
    rows = (BoardRow(rank, f"card_{rank}", name, score) for rank, (name, score) in enumerate(leaders, 1))
    return BoardView("points", f"event:{EVENT}", len(leaders), tuple(rows))


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        running.pages["/board/"] = BoardPages()
        running.engine.topics[(TENANT, TOPIC)] = FakeTopic(
            gala(412, scans=tuple(summary(number) for number in range(len(SCANS) - 1)))
        )
        running.engine.topics[(TENANT, RANKS)] = FakeTopic(ranks(LEADERS))
        yield running


def address(edge: SocketEdge, token: str = KEY_TOKEN, event_id: str = EVENT) -> str:
    return edge.url.replace("ws:", "http:") + f"/board/{event_id}#token={token}"


async def test_it_shows_the_counts_the_scans_and_the_leaders_and_follows_them(
    edge: SocketEdge, page: Page, tmp_path: Path
) -> None:
    await page.look(1920, 1080)
    await page.goto(address(edge))
    await page.until_text("connection-text", "Live")
    await page.until_text("inside", "412")
    assert await page.text("capacity") == "500"
    assert await page.text("percent") == "82 %"
    assert await page.value("document.querySelectorAll('#scans li').length") == 13
    await page.until("document.querySelector('#ranks li span')?.textContent", "Daniel Okafor")

    edge.engine.publish(TENANT, TOPIC, gala(413, scans=(summary(len(SCANS) - 1),)))
    await page.until_text("inside", "413")
    assert await page.text("admitted") == "474"
    newest = "document.querySelector('#scans li')"
    assert await page.value(f"{newest}.querySelector('.who b').textContent") == "Yuki Tanaka"
    assert await page.value(f"{newest}.dataset.kind") == "entry"
    assert await page.value("document.querySelectorAll('#scans li').length") == 14
    kinds = "[...document.querySelectorAll('#scans li')].map(row => row.dataset.kind)"
    assert set(await page.value(kinds)) == {"entry", "exit", "refused"}

    await page.value(FINISH_ANIMATIONS)
    await page.screenshot(tmp_path / "board.png")
    assert (tmp_path / "board.png").stat().st_size > 10_000

    edge.engine.publish(TENANT, RANKS, ranks([("Yuki Tanaka", 2_000), *LEADERS[:5]]))
    await page.until_text(
        "ranks",
        "1Yuki Tanaka2,0002Daniel Okafor1,4803Lê Quang Huy1,2154Hugo Bernard1,1905Nguyễn Minh Anh9606Emma Lindqvist905",
    )
    edge.engine.publish(TENANT, TOPIC, gala(500))
    await page.until_text("free", "House full")
    assert await page.value("document.getElementById('bar').dataset.level") == "full"
    assert page.complaints == []


async def test_a_conflict_is_shown_with_both_sides(edge: SocketEdge, page: Page) -> None:
    first = FirstSeen(NOW_MS - 60_000, "gate_north", "North", "dev_1")
    whose = ("card_1", "Lan", "gold", "gate_river", "dev_2", 0, "River")
    scan = ScanSummary("s", NOW_MS, True, "", "entry", *whose, "already_admitted", "", NOW_MS - 5_000, first)
    edge.engine.topics[(TENANT, TOPIC)] = FakeTopic(gala(412, scans=(scan,)))
    await page.goto(address(edge))
    await page.until_text("inside", "412")
    assert await page.value("document.querySelector('#scans li').dataset.kind") == "refused"
    words = await page.value("document.querySelector('#scans .who small').textContent")
    seen, other = [await page.value(f"clockWithSeconds.format({at})") for at in (NOW_MS - 5_000, NOW_MS - 60_000)]
    assert words == f"Let in offline at {seen}: Inside already (North, {other}) · Gold · River"


async def test_a_conflict_that_was_resolved_is_struck_through(edge: SocketEdge, page: Page) -> None:
    whose = ("card_1", "Lan", "gold", "gate_river", "dev_2", 0, "River", "already_admitted", "", NOW_MS)
    scan = ScanSummary("s", NOW_MS, True, "", "entry", *whose)
    row, struck = "document.querySelector('#scans li')", "document.querySelector('#scans s')?.textContent"

    async def tell(*changes: ConflictChange) -> None:
        now = 413 + edge.engine.topics[(TENANT, TOPIC)].offset
        edge.engine.publish(TENANT, TOPIC, msgspec.structs.replace(gala(now), conflict_changes=changes))
        await page.until_text("inside", str(now))

    edge.engine.topics[(TENANT, TOPIC)] = FakeTopic(gala(412, scans=(scan,)))
    await page.goto(address(edge))
    await page.until_text("inside", "412")
    mark = ("already_admitted", False)
    await tell(ConflictChange("card_1", "s", "first", *mark), ConflictChange("card_1", "late", "s", *mark))
    await tell(ConflictChange("card_1", "s", "first", "already_admitted", is_resolved=True))
    assert await page.value(f"{row}.dataset.kind") == "refused", "it is in another"
    await tell(ConflictChange("card_1", "late", "s", "already_admitted", is_resolved=True))
    assert await page.value(f"{row}.dataset.kind") == "resolved"
    assert str(await page.value(struck)).startswith("Let in offline at")
    await tell(ConflictChange("card_1", "s", "", "card_revoked", is_resolved=False))
    assert await page.value(f"{row}.dataset.kind") == "refused"


async def test_a_board_that_comes_later_shows_what_was_resolved(edge: SocketEdge, page: Page) -> None:
    whose = ("card_1", "Lan", "gold", "", "", 0, "", "card_revoked", "", NOW_MS, None, True)
    scan = ScanSummary("s", NOW_MS, True, "", "entry", *whose)
    edge.engine.topics[(TENANT, TOPIC)] = FakeTopic(gala(412, scans=(scan,)))
    await page.goto(address(edge))
    await page.until_text("inside", "412")
    assert await page.value("document.querySelector('#scans li').dataset.kind") == "resolved"


async def test_the_token_leaves_the_address_and_never_reaches_the_server_in_one(edge: SocketEdge, page: Page) -> None:
    await page.goto(address(edge))
    await page.until_text("connection-text", "Live")
    assert await page.value("location.hash") == ""
    assert await page.value("sessionStorage.getItem('mastervip.token')") == KEY_TOKEN
    assert await page.value("performance.getEntries().filter(entry => entry.name.includes('token')).length") <= 1
    await page.call("Page.reload")
    await page.until_text("connection-text", "Live")
    await page.until_text("inside", "412")


async def test_after_a_broken_line_it_comes_back_and_has_missed_nothing(edge: SocketEdge, page: Page) -> None:
    await page.goto(address(edge))
    await page.until_text("connection-text", "Live")
    await page.until_text("inside", "412")
    [connection] = edge.sockets._open
    connection.close(codes.SLOW_READER)
    await page.until_text("connection-text", "Reconnecting")
    for number in range(3):
        edge.engine.publish(TENANT, TOPIC, gala(413 + number, scans=(summary(number),)))
    await page.until_text("inside", "415")
    await page.until_text("connection-text", "Live")
    assert await page.value("document.querySelectorAll('#scans li').length") == 14
    assert edge.engine.questions[-1].since_offset == 0, "it asked from where it was"
    assert await page.value("document.getElementById('message').hidden") is True


@pytest.mark.parametrize(
    ("token", "event_id", "title"),
    [
        ("nobody", EVENT, "This link is not valid any more"),
        ("", EVENT, "This link has no token"),
        ("powerless", EVENT, "This link may not show boards"),
        (KEY_TOKEN, "evt_none", "There is no such event"),
    ],
)
async def test_what_cannot_be_shown_is_said_clearly(
    edge: SocketEdge, page: Page, token: str, event_id: str, title: str
) -> None:
    await page.goto(address(edge, token, event_id))
    await page.until_text("message-title", title)
    assert await page.value("document.getElementById('message').hidden") is False
    assert await page.text("connection-text") == "Not connected"
    await until(lambda: len(edge.sockets) == 0)


async def test_names_are_text_never_html(edge: SocketEdge, page: Page) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    scan = ScanSummary("s", NOW_MS, True, "", "entry", "c", evil, "gold", evil, "d", 1)
    edge.engine.topics[(TENANT, TOPIC)] = FakeTopic(EventFeed(EVENT, evil, 1, 1, 0, 9, 0, (scan,)))
    await page.goto(address(edge))
    await page.until_text("name", evil)
    assert await page.value("document.querySelectorAll('main img').length") == 0
    assert await page.value("document.querySelector('#scans .who b').textContent") == evil


@pytest.mark.parametrize(("width", "height"), [(390, 844), (820, 1180), (1366, 768), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("is_dark", [True, False])
async def test_it_fits_the_screen(
    edge: SocketEdge, page: Page, tmp_path: Path, width: int, height: int, is_dark: bool
) -> None:
    await page.look(width, height, is_dark=is_dark)
    await page.goto(address(edge))
    await page.until_text("inside", "412")
    await page.until("document.querySelectorAll('#ranks li').length", 10)
    size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    scroll_width, scroll_height = await page.value(size)
    assert scroll_width <= width, "nothing sticks out"
    if width >= 1366:
        assert scroll_height <= height, "a wide screen shows all at once"
        lowest = (
            "Math.max(...[...document.querySelectorAll('#ranks li')].map(row => row.getBoundingClientRect().bottom))"
        )
        assert await page.value(lowest) <= height, "the whole top ten is to be seen"
    await page.value(FINISH_ANIMATIONS)
    await page.screenshot(tmp_path / f"{width}-{is_dark}.png")


async def test_the_page_and_its_files_are_served_as_they_should_be(edge: SocketEdge) -> None:
    base = edge.url.replace("ws:", "http:")
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        page = await client.get(f"/board/{EVENT}")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "inline" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "style=" not in page.text
        assert "http" not in page.text, "nothing from elsewhere"
        same = await client.get(f"/board/{EVENT}", headers={"if-none-match": page.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        for name, kind in (("board.css", "text/css"), ("board.js", "text/javascript"), ("board.svg", "image/svg+xml")):
            file = await client.get(f"/board/static/{name}")
            assert (file.status_code, file.headers["content-type"].split(";")[0]) == (200, kind)
            assert "@import" not in file.text
        head = await client.head(f"/board/{EVENT}")
        assert (head.status_code, head.content) == (200, b"")
        for path in ("/board/", "/board/a/b", "/board/static/pages.py", "/board/static/..%2fpages.py", "/board/%00"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post(f"/board/{EVENT}")).status_code == 405


def test_the_picture_in_the_readme_is_small_enough() -> None:
    assert (Path(__file__).parent / "board.png").stat().st_size <= BOARD_SCREENSHOT_BYTES_MAX
