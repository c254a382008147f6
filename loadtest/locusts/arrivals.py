"""Locust's shape of a run: `-u` is the peak, `-t` the whole evening (or `SECONDS_DEFAULT`), `--curve` the form, which
also says how fast users come and go: `-r` changes nothing."""

from __future__ import annotations

from typing import Any

from locust import LoadTestShape

from loadtest.client.orders import Curve
from loadtest.locusts.curve import users_at

SECONDS_DEFAULT = 600


class Arrivals(LoadTestShape):
    """Locust asks once a second."""

    use_common_options = True
    curve: Curve = "doors"

    def tick(self) -> tuple[int, float] | None:
        """Users, and how many of them come or go a second; None when the evening is over."""
        environment: Any = self.runner.environment  # type: ignore[union-attr]
        options = environment.parsed_options
        seconds = options.run_time or SECONDS_DEFAULT
        passed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        if passed_s >= seconds:
            return None
        peak = options.num_users or 1
        return users_at(self.curve, peak, passed_s / seconds), float(peak)
