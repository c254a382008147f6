"""Moves partitions between the hosts of a running system, over and over, as an operator would.

`python -m tests.chaos.mover DATA COUNT PARTITION...` prints what became of each move as a line of JSON.
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from pathlib import Path

import msgspec

from serve.ray_environment import prepare, token_path


def main(data: Path, count: int, partitions: list[int]) -> None:
    """Each partition in turn goes to the next host."""
    prepare(token_path(data), is_alone=True)
    from serve.move import supervisor  # Ray reads its environment when it is imported
    from serve.ray_supervisor import ask_move, ask_status

    answers = sys.stdout.buffer  # it is stderr as long as Ray may print
    with supervisor(data) as found:
        hosts = [host.name for host in ask_status(found, 10.0).hosts]
        for number, partition in enumerate(islice(cycle(partitions), count)):
            owner = next(line.owner for line in ask_status(found, 10.0).partitions if line.number == partition)
            others = [host for host in hosts if host != owner]
            moved = ask_move(found, partition, others[number % len(others)])
            answers.write(msgspec.json.encode(moved) + b"\n")
            answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]])
