"""`mastervip move`: a partition goes to the host that an operator names, and stays there while that host lives.

The old owner finishes what it has begun, the new one opens the partition, gateways hear of it and ask again what came
in between. Clients see a pause of some tenths of a second, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import ray
from click import ClickException, echo
from ray.exceptions import RayError

from serve import connection, ray_supervisor
from serve.connection import NotRunning
from serve.ray_cluster import NAMESPACE, attached
from serve.ray_supervisor import Handle


@contextmanager
def supervisor(data: Path) -> Iterator[Handle]:
    """The supervisor of the system on `data`. Raises `ClickException` when there is none."""
    try:
        with attached(connection.read(data).ray):
            yield ray.get_actor(ray_supervisor.NAME, NAMESPACE)
    except (NotRunning, RayError, ValueError, OSError) as error:
        raise ClickException(str(error)) from error


def main(data: Path, partition: int, target: str, as_json: bool) -> None:
    """The command. `target` "": anywhere."""
    with supervisor(data) as found:
        moved = ray_supervisor.ask_move(found, partition, target)
    if moved.error:
        raise ClickException(moved.error)
    if as_json:
        echo(msgspec.json.encode(moved))
    elif target:
        echo(f"partition {partition} is open at {target}, after {moved.took_ms} ms")
    else:
        echo(f"partition {partition} goes wherever loads are level")
