"""How our processes write logs: a line for each event, and tracebacks plain.

Drawn tracebacks, which structlog makes wherever a library for them happens to be installed, show local variables, which
may be secrets, and hold up the process for up to a second each.
"""

from __future__ import annotations

import sys

import structlog


def configure(*, to_stderr: bool = False) -> None:
    """Once in each process; to stdout if nothing else is said."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        # The stream of the moment: tests and commands put others in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr if to_stderr else sys.stdout),
    )
