"""The member's app: whoever has a card looks at it, mostly at its code, while they queue and afterwards.

People of the fixtures file by turns (`python -m loadtest.accounts`); one with two phones has signed in once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from locust import task

from loadtest.locusts.visitor import Visitor

PAGE = 20
STATEMENT_DAYS = 30


class MemberApp(Visitor):
    """A phone with the app open: about one request in five seconds."""

    weight = 12
    kind = "member"
    pause_s = (2.0, 8.0)

    def on_start(self) -> None:
        """Signs in, and opens the app."""
        super().on_start()
        account = self.fixture("members")
        self._card: str = account["card_id"]
        self._vip = self.once(("account", account["email"]), "sign in", lambda: self.run_now.sign_in(account))
        self.me()

    @task(1)
    def me(self) -> None:
        """Who one is, and which cards one has."""
        self.asked("me", self._vip.me)

    @task(8)
    def rotating_code(self) -> None:
        """The QR code of now, and the next minute's."""
        self.asked("rotating code", lambda: self._vip.cards.rotating_credential(self._card, ahead=4))

    @task(2)
    def card(self) -> None:
        """The card itself."""
        self.asked("card", lambda: self._vip.cards.get(self._card))

    @task(4)
    def balance(self) -> None:
        """Points and wallet."""
        self.asked("balance", lambda: self._vip.cards.balance(self._card))

    @task(2)
    def ledger(self) -> None:
        """The newest entries."""
        self.read(self._vip, "ledger", f"/v1/cards/{self._card}/ledger", limit=PAGE)

    @task(1)
    def statement(self) -> None:
        """The last month."""
        until = datetime.now(UTC)
        since = until - timedelta(days=STATEMENT_DAYS)
        self.asked("statement", lambda: self._vip.cards.statement(self._card, since, until))

    @task(2)
    def coupons(self) -> None:
        """The card's coupons."""
        self.read(self._vip, "coupons", f"/v1/cards/{self._card}/coupons", limit=PAGE)

    @task(2)
    def tier(self) -> None:
        """The tier, and what the next one takes."""
        self.asked("tier", lambda: self._vip.cards.tier(self._card))

    @task(3)
    def leaderboard(self) -> None:
        """The ranks around oneself."""
        self.asked("leaderboard around me", lambda: self._vip.leaderboards.get("points", limit=PAGE, around=self._card))
