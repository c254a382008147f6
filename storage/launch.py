"""Becomes a store's server process. Run as a script by `storage.process`, never imported by the engine.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID DIRECTORY PROGRAM ARGUMENT...

Why a script and not `preexec_fn`: Python may not run code between fork and exec in a process with threads (Ray and
uvicorn have them). The order of the steps is what makes it work:
1. Enter DIRECTORY while still privileged: its parents may be closed to the user that the server will run as.
2. Give up privileges (UID -1 keeps them), since Postgres refuses root.
3. Only then ask the kernel for DEATH_SIGNAL when the parent dies, because a change of user clears that request.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Turns this process into PROGRAM; returns only by an exception."""
    parent_pid, death_signal, uid = (int(argument) for argument in arguments[:3])
    directory, program = arguments[3:5]
    os.umask(0o077)
    os.chdir(directory)
    if uid != -1:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent_pid:  # it died before it could be watched
            sys.exit(1)
    os.execv(program, arguments[4:])


if __name__ == "__main__":
    main(sys.argv[1:])
