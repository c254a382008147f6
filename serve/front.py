"""What the user starts: a small process that runs the system in a session of its own, hands signals on and waits.

A signal to a whole process group (Ctrl-C, `timeout`, systemd, a test's `killpg`) would otherwise hit Ray's processes
and the engine at the same time as us, and there would be nothing left to drain. If this process is killed, the kernel
tells the system to stop, which it then does as at any other time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from storage.process import LAUNCHER

KEEP_USER = "-1"


def run(arguments: Sequence[str]) -> int:
    """Runs `python -m serve.cli ARGUMENTS` and returns its exit status; SIGINT and SIGTERM reach it as SIGTERM."""
    signals = {signal.SIGINT, signal.SIGTERM}
    # Blocked until there is somebody to hand them on to. The child inherits that and unblocks when it can handle them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    program = [sys.executable, "-m", "serve.cli", *arguments]
    # The launcher asks for the death signal and then becomes the program; it runs isolated, the program does not.
    launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(signal.SIGTERM)), KEEP_USER]
    process = subprocess.Popen([*launch, os.getcwd(), *program], start_new_session=True)

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)

    for number in signals:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = process.wait()
    return status if status >= 0 else 128 - status
