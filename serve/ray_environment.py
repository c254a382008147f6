"""What Ray reads from the environment when it is imported. Imports no Ray: `prepare` has to come first.

Ray's workers inherit these variables from the process that starts the cluster.
"""

from __future__ import annotations

import os
from pathlib import Path

from storage.process import kept_password

VARIABLES = {
    "RAY_AUTH_MODE": "token",
    # Ray gives workers niceness 15 by default: check-ins would wait for everything else on the machine.
    "RAY_worker_niceness": "0",
    # A call that was under way when its actor was killed ends after 0.15 s instead of 1.3 s (measured): Ray looks every
    # so often, by default each second, whether a failed call's actor is dead, and waits up to a second to be told why.
    "RAY_core_worker_internal_heartbeat_ms": "100",
    "RAY_timeout_ms_task_wait_for_death_info": "50",
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default Serve looks ten times a second at what hardly ever changes, and each gateway tells as often how many
    # requests came by Serve's own proxy, which is none: 3 % and 4 % of a core.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # How often gateways say how busy they are (every ten seconds by default), where their number follows the load.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}


# For a Ray of this machine alone: its ports on 127.0.0.1, as Ray has it on those systems that it calls the variable
# after. Elsewhere they are on every interface, and its metrics are for everybody to read.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def token_path(data: Path) -> Path:
    """The file with the token of the Ray that `up` starts on `data`."""
    return data / "ray.token"


def prepare(token: Path | None, *, is_alone: bool) -> None:
    """Sets the variables. `token` is the file with the cluster's token, None: wherever Ray looks by itself. `is_alone`:
    it is the Ray of this machine that `up` starts, not one of several machines."""
    os.environ.update(VARIABLES)
    if is_alone:
        os.environ.update(ALONE)
    if token is not None:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)


def kept_token(data: Path) -> Path:
    """The file with the token of our own Ray; the token is made on first use."""
    path = token_path(data)
    kept_password(path, may_create=True)
    return path
