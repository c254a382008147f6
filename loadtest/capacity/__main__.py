"""`python -m loadtest.capacity [--figures bench.json] [--json]`: what 20,000, 200,000 and 2,000,000 check-ins a second
take, and 500 million monthly members."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from loadtest.capacity.model import Costs, Machine, Plan, Usage, breaking, plan

LOADS = (20_000, 200_000, 2_000_000)
MEMBERS = 500_000_000
ANSWERS = {
    "gateway": "more gateways on the same port, on more nodes; sockets are spread by reconnecting",
    "host": "more hosts: partitions move to them; more partitions where all hosts have one each",
    "redis": "a Redis for some of the partitions each: a partition's keys share one hash tag",
    "projector": "more projectors, each with some of the partitions",
    "postgres": "Citus: all rows are placed by organisation, and workers are added; what is old goes to cheaper disks",
}


def costs_of(document: dict[str, Any]) -> Costs:
    """What `mastervip bench --json` measured."""
    own = document["mastervip"]
    used = own["cpu_us_per_checkin"]
    return Costs(
        gateway_us=used["gateway"],
        host_us=used["host"],
        redis_us=used["redis"],
        projector_us=used["projector"],
        postgres_us=used["postgres"],
        journal_bytes=own["journal_bytes_per_checkin"],
        database_bytes=own["database_bytes_per_checkin"],
    )


def text_of(name: str, one: Plan) -> list[str]:
    """For people."""
    lines = [f"{name}: {one.check_ins_per_s:,.0f} check-ins a second at the worst time"]
    for kind, need in one.needs.items():
        lines.append(f"  {kind:10} {need.units:7,}  by {need.bound_by}")
    price = f"{one.price_per_month:,.0f} a month with {one.kept_gib:,.0f} GiB kept"
    return [*lines, f"  {one.machines:,} machines, {price}", ""]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.capacity", description="Machines for a load.")
    parser.add_argument("--figures", type=Path, help="what `mastervip bench --json` printed; else documented figures")
    parser.add_argument("--visits", type=float, default=4.0, help="of a member, a month")
    parser.add_argument("--peak", type=float, default=20.0, help="the worst time, as a multiple of the mean")
    parser.add_argument("--kept-days", type=float, default=90.0)
    parser.add_argument("--cores", type=int, default=8, help="of a machine")
    parser.add_argument("--core-price", type=float, default=0.045, help="with its memory, an hour")
    parser.add_argument("--gib-price", type=float, default=0.10, help="of disk, a month")
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args()


def main() -> None:
    """The command."""
    options = arguments()
    costs = costs_of(json.loads(options.figures.read_bytes())) if options.figures else Costs()
    machine = Machine(cores=options.cores, core_price=options.core_price, gib_price=options.gib_price)
    members = Usage.of_members(MEMBERS, options.visits, options.peak, kept_days=options.kept_days)
    usages = {f"{load:,} a second": Usage(check_ins_per_s=load, kept_days=options.kept_days) for load in LOADS}
    usages[f"{MEMBERS:,} monthly members"] = members
    plans = {name: plan(usage, costs, machine) for name, usage in usages.items()}
    order = breaking(costs, machine, members)
    if options.as_json:
        document = {"plans": plans, "breaks": order, "costs": costs, "machine": machine, "usages": usages}
        print(msgspec.json.encode(document).decode())  # noqa: T201
        return
    lines = [line for name, one in plans.items() for line in text_of(name, one)]
    lines.append("One of each, and what gives way first:")
    lines += [f"  {at:9,.0f}/s  {kind} ({by}): {ANSWERS[kind]}" for kind, by, at in order]
    most = next(iter(plans.values())).tenant_max
    lines.append(f"  {most:9,.0f}/s  of one organisation: it is one partition's, so one host's")
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
