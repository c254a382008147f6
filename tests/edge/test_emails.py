"""E-mail addresses and mails: one form for one address, and files that only we can read."""

from __future__ import annotations

import email as email_package
import stat
from email.policy import SMTPUTF8
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.emails import normal_email
from gateway.identity.mail import MailError, OutboxMailer, composed

NOW_MS = 1_795_341_600_123


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann.Smith+vip@Example.COM\t", "ann.smith+vip@example.com"),
        ("superadmin@localhost", "superadmin@localhost"),
        ("ＡＮＮ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ann@example.com"),
        ("nguye\u0302\u0303n@vi\u1ec7t.vn", "nguyễn@việt.vn"),
        ("o'neil@example.com", "o'neil@example.com"),
    ],
)
def test_an_address_has_one_form(text: str, normal: str) -> None:
    assert normal_email(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@@example.com",
        "a@b@example.com",
        "ann@example.com\nBcc: all@example.com",
        "ann@exa mple.com",
        "a,b@example.com",
        "ann@example.com,bob@example.com",
        "<ann@example.com>",
        '"ann b"@example.com',
        "ann(comment)@example.com",
        "ann@[127.0.0.1]",
        "ann@-example.com",
        "ann@example.com.",
        "ann@exa..mple.com",
        "ann@exa_mple.com",
        ".ann@example.com",
        "ann.@example.com",
        "ann\x00@example.com",
        "ann\u200b@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 251,
    ],
)
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="e-mail address"):
        normal_email(text)


@given(st.text(max_size=40) | st.from_regex(r"[\w.İßﬀ]{1,10}@[\w.-]{1,12}", fullmatch=True))
def test_the_normal_form_is_its_own_and_fits_a_header(text: str) -> None:
    try:
        normal = normal_email(text)
    except ValueError:
        return
    assert normal_email(normal) == normal
    sent = composed("no@localhost", normal, "x", "y", NOW_MS, "n")
    read = email_package.message_from_string(sent.decode(), policy=SMTPUTF8)
    assert [address.addr_spec for address in read["To"].addresses] == [normal]


def outbox(directory: Path) -> OutboxMailer:
    return OutboxMailer(directory, "noreply@localhost", lambda: NOW_MS, lambda count: b"r" * count)


async def test_a_mail_is_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    await outbox(directory).send("nguyễn@example.com", "Xin chào", "a token\nof yours ✓\n")
    (path,) = directory.iterdir()
    assert path.suffix == ".eml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    message = email_package.message_from_bytes(path.read_bytes(), policy=SMTPUTF8)
    assert (message["From"], message["To"], message["Subject"]) == (
        "noreply@localhost",
        "nguyễn@example.com",
        "Xin chào",
    )
    assert message["Date"].datetime.timestamp() == NOW_MS // 1_000
    assert message["Message-ID"]
    assert message.get_content().replace("\r\n", "\n") == "a token\nof yours ✓\n"


async def test_an_outbox_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    with pytest.raises(MailError, match="outbox"):
        await outbox(tmp_path / "outbox").send("ann@example.com", "Hello", "text")
