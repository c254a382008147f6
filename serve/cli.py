"""The command line, as the contract has it: options in, one function called, exit status out.

Rules:
1. With `--json` a command's answer is one JSON document on stdout; everything else goes to stderr.
2. Commands import what they need when they run: `--help` stays quick, and Ray reads its environment at import, which
   `prepare` has to have set by then.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError

from serve import front
from serve.ray_environment import prepare, token_path
from serve.settings import Settings

URL_DEFAULT = "http://127.0.0.1:8080"
DATA_DEFAULT = ".mastervip"
BEHIND_FRONT = "--behind-front"

_url = click.option(
    "--url", default=None, help=f"Where the system listens (default: as --data says, or {URL_DEFAULT})."
)
_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help=f"The system's directory (default {DATA_DEFAULT}).",
)
_file = click.Path(dir_okay=False, exists=True, path_type=Path)
_input = click.Path(dir_okay=False, exists=True, allow_dash=True, path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class _Group(click.Group):
    """Commands in the order in which they are defined: that of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """MasterVIP: realtime check-ins for VIP cards."""


def _up_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--port", type=click.IntRange(1, 65_535), default=None, help="Port of the API (default 8080)."
            ),
            click.option("--hosts", type=click.IntRange(1), default=None, help="Host processes, besides the standby."),
            click.option("--gateways", type=click.IntRange(1), default=None, help="Gateway processes (default 2)."),
            click.option(
                "--gateways-max", type=click.IntRange(1), default=None, help="More of them under load, up to so many."
            ),
            click.option("--tls", is_flag=True, default=None, help="TLS 1.3; with a certificate of our own, or"),
            click.option("--tls-cert", type=_file, default=None, help="yours (PEM, with what it is chained to)"),
            click.option("--tls-key", type=_file, default=None, help="and its key (PEM, without a password)."),
            click.option(
                "--trusted-proxies",
                default=None,
                metavar="CIDR,…",
                help="Proxies whose X-Forwarded-For and Forwarded are believed (default: none).",
            ),
            _data,
            click.option(BEHIND_FRONT, is_flag=True, hidden=True),
        )
    ):
        command = option(command)
    return command


@cli.command()
@_up_options
@click.option("--unsafe-journal", is_flag=True, default=None, help="Accept a Redis that may lose confirmed check-ins.")
def up(**options: Any) -> None:
    """Start everything; ends on Ctrl-C or SIGTERM."""
    _run_system(options)


@cli.command()
@_url
@_data
@click.option("--members", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--events", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The fixtures file.")
@_json
def seed(url: str | None, data: Path | None, members: int, events: int, out: Path, as_json: bool) -> None:
    """Fill a running system through its API; writes the fixtures file."""
    import_module("serve.seed").main(url, _data_directory(data), members, events, out, as_json)


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_url
@_data
@click.option("--profile", type=click.Choice(["rest", "ws", "mixed", "doors"]), default="mixed", show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5), default=20.0, show_default=True)
@click.option("--connections", type=click.IntRange(1), default=None, help="REST connections and sockets together.")
@click.option("--rate", type=click.FloatRange(0), default=None, help="Check-ins a second; 0: as many as it takes.")
@click.option("--scans-per-frame", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="The median of so many is reported.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A report with plots.")
@_json
@click.argument("more", nargs=-1)
def bench(as_json: bool, more: tuple[str, ...], **options: Any) -> None:
    """Measure a running system (--data), else one of its own, with baselines and limits.

    `python -m loadtest.bench --help` has all options.
    """
    # A program of its own: `loadtest` lies above this layer, and the load must not share a process with anything.
    arguments = ["--json"] if as_json else []
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    os.execv(sys.executable, [sys.executable, "-m", "loadtest.bench", *arguments, *more])


@cli.command()
@_url
@_data
@_json
@click.option(
    "--acks",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    default=None,
    help="A file in which a client kept what it was told (storage/acks.py): all of it must be in the journal.",
)
@click.option("--stores-only", is_flag=True, help="Journal and Postgres alone: the hosts do not run.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long Postgres may take to be where the journal ends; a partition that halted never is.",
)
def audit(
    url: str | None, data: Path | None, as_json: bool, acks: Path | None, stores_only: bool, drain_seconds: float
) -> None:
    """Drain, then check every invariant over journal, memory and Postgres."""
    directory = _data_directory(data)
    token = token_path(directory)
    prepare(token if token.exists() else None, is_alone=token.exists())
    sys.exit(import_module("serve.audit").run(directory, as_json, acks, stores_only, drain_seconds))


@cli.command()
@_url
@_data
@_json
def status(url: str | None, data: Path | None, as_json: bool) -> None:
    """Hosts, partitions, gateways, queues, stores."""
    sys.exit(asyncio.run(import_module("serve.status").main(url, _data_directory(data), as_json)))


@cli.command()
@_data
@_json
@click.argument("partition", type=click.IntRange(0))
@click.option("--to", "target", metavar="HOST", default=None, help="The host that should have it, as in `status`.")
@click.option("--anywhere", is_flag=True, help="It need not stay where it was moved to.")
def move(data: Path | None, as_json: bool, partition: int, target: str | None, anywhere: bool) -> None:
    """Give a partition to another host, under load; it stays there while that host lives."""
    if (target is None) != anywhere:
        raise click.UsageError("name a host with --to, or say --anywhere")
    directory = _data_directory(data)
    token = token_path(directory)
    prepare(token if token.exists() else None, is_alone=token.exists())
    import_module("serve.move").main(directory, partition, target or "", as_json)


_WHO = "The token (an API key, a device's or an access token) is read from MASTERVIP_TOKEN."


@cli.command(epilog=_WHO)
@_url
@_data
@click.option("--body", type=_input, default=None, help="A file with the whole body (- is stdin), in place of fields.")
@click.option("--type", "content_type", default="application/json", show_default=True, help="What the file holds.")
@click.option("--accept", default="", help="What the answer should be, such as text/csv.")
@click.option("--key", default="", help="The Idempotency-Key: the same key and request are done once.")
@click.option("--all", "is_all", is_flag=True, help="A list to its end, one item a line (with --json one document).")
@_json
@click.argument("words", nargs=-1)
def api(url: str | None, data: Path | None, words: tuple[str, ...], **options: Any) -> None:
    """Ask a running system for anything that its API has.

    WORDS are an operation, what it is about, and fields: `api cards points award card_1 amount=50 note="Well done"`;
    NAME:=JSON for what is no text, A.B=TEXT for a field within another. Operations that begin like WORDS are listed:
    `api` has all, `api cards` those of cards with their fields.
    """
    command = import_module("serve.api_command")
    command.api(url, _data_directory(data), URL_DEFAULT, _token(), command.Asked(words, **options))


@cli.command(epilog=_WHO)
@_url
@_data
@click.argument("topics", nargs=-1, required=True)
def watch(url: str | None, data: Path | None, topics: tuple[str, ...]) -> None:
    """Follow live topics, one JSON document a line.

    TOPICS are event:ID, leaderboard:BOARD[:WINDOW] or card:ID.
    """
    import_module("serve.api_command").watch(url, _data_directory(data), URL_DEFAULT, _token(), topics)


@cli.command("rotate-keys")
@_data
@_json
@click.option("--revoke", is_flag=True, help="A key may have leaked: all until now are void.")
def rotate_keys(data: Path | None, as_json: bool, revoke: bool) -> None:
    """Replace the key that signs access tokens; nobody notices."""
    import_module("serve.rotate_keys").main(_settings({"data": data}), revoke, as_json)


@cli.command()
@_up_options
@click.option("--members", type=click.IntRange(1), default=200, show_default=True)
def demo(members: int, **options: Any) -> None:
    """Start everything with sample data and scanners at work; prints the addresses to open."""
    _run_system(options, lambda: import_module("serve.demo").Demo(members).run)


def _run_system(options: dict[str, Any], make_on_ready: Callable[[], Any] | None = None) -> NoReturn:
    """Runs the system until it is told to stop; what the user started is only the front of it."""
    is_behind_front = options.pop("behind_front")
    settings = _settings(options)
    if not is_behind_front:
        sys.exit(front.run([*sys.argv[1:], BEHIND_FRONT]))
    is_alone = not settings.ray_address
    token = token_path(settings.data.resolve()) if is_alone else settings.ray_auth_token_path
    prepare(token, is_alone=is_alone)
    module = import_module("serve.up")
    try:
        sys.exit(module.Up(settings).run(make_on_ready() if make_on_ready else None))
    except module.StartError as error:
        raise click.ClickException(str(error)) from error


def _settings(options: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors()]
        raise click.ClickException("\n".join(lines)) from error


def _token() -> str | None:
    """Who asks; None for nobody."""
    token = _settings({}).token
    return None if token is None else token.get_secret_value()


def _data_directory(data: Path | None) -> Path:
    """The option, else what the environment says, else the default: as for `up`."""
    return (data or _settings({}).data).resolve()


def main() -> None:
    """The console script `mastervip`."""
    cli()


if __name__ == "__main__":
    main()
