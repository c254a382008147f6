"""What the supervisor tells of the whole: kept at a Redis key for `mastervip status`, and answered to `up`."""

from __future__ import annotations

import msgspec

from actors.host import PartitionStatus
from storage.projector import ProjectorStatus

STATUS_KEY = "mv:status"


class HostLine(msgspec.Struct, frozen=True):
    """A host. One that is alive and owns nothing is the warm standby."""

    name: str
    is_alive: bool
    pid: int
    partitions: int


class PartitionLine(msgspec.Struct, frozen=True):
    """A partition and its owner; `figures` is None while the owner has not said anything about it."""

    number: int
    owner: str
    figures: PartitionStatus | None


class ProjectorLine(msgspec.Struct, frozen=True):
    """A projector, and how far each of its partitions is."""

    name: str
    is_alive: bool
    pid: int
    status: ProjectorStatus | None


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the supervisor knows, as of `at_ms`."""

    at_ms: int
    placement_version: int
    partition_count: int
    hosts: list[HostLine]
    partitions: list[PartitionLine]
    projectors: list[ProjectorLine]

    @property
    def is_open(self) -> bool:
        """Whether every partition is open at its owner."""
        opened = [line for line in self.partitions if line.figures is not None and line.figures.state == "open"]
        return len(opened) == self.partition_count
