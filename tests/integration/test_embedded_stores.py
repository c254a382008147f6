"""The embedded stores, really started: durable settings, everything kept over stop and kill -9, clear refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from serve.stores import quiet_port
from storage import process
from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_redis import EmbeddedRedis
from storage.process import EmbeddedStoreError, free_port

type_of_store = pytest.mark.parametrize("store_type", [EmbeddedRedis, EmbeddedPostgres])
Make = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes stores and stops them after the test."""
    stores: list[EmbeddedRedis | EmbeddedPostgres] = []

    def make_store(store_type: Make, directory: Path, port: int | None = None) -> Any:
        stores.append(store_type(directory, port or quiet_port()))
        return stores[-1]

    yield make_store
    for store in stores:
        try:
            store.stop()
        except EmbeddedStoreError:
            continue  # never started


def sql(store: EmbeddedPostgres, query: str, database: str = "mastervip") -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(f"{store.url.rpartition('/')[0]}/{database}")
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    with asyncio.Runner() as runner:
        return runner.run(run())


def write(store: EmbeddedRedis | EmbeddedPostgres, value: int) -> None:
    if isinstance(store, EmbeddedRedis):
        with redis.Redis.from_url(store.admin_url) as client:
            client.rpush("kept", value)
    else:
        sql(store, "CREATE TABLE IF NOT EXISTS kept (value int)")
        sql(store, f"INSERT INTO kept VALUES ({value})")


def written(store: EmbeddedRedis | EmbeddedPostgres) -> list[int]:
    if isinstance(store, EmbeddedRedis):
        with redis.Redis.from_url(store.admin_url) as client:
            return [int(value) for value in client.lrange("kept", 0, -1)]
    return [value for (value,) in sql(store, "SELECT value FROM kept ORDER BY value")]


def port_of(store: EmbeddedRedis | EmbeddedPostgres) -> int:
    return int(store.url.split(":")[3].split("/")[0])


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # ended, and whoever inherited it has not looked yet


@type_of_store
def test_everything_is_there_after_stop_and_after_kill(store_type: Make, make: Make, tmp_path: Path) -> None:
    store = make(store_type, tmp_path / "a place" / "data")
    store.start()
    assert store.poll() is None
    write(store, 1)
    store.stop()
    assert store.poll() == 0
    store.start()
    write(store, 2)
    store.kill()
    assert store.poll() == -signal.SIGKILL
    store.start()
    write(store, 3)
    store.stop()

    again = make(store_type, tmp_path / "a place" / "data")  # another port, as after a restart of everything
    again.start()
    assert written(again) == [1, 2, 3]


@type_of_store
def test_stores_in_other_directories_are_apart(store_type: Make, make: Make, tmp_path: Path) -> None:
    one, other = make(store_type, tmp_path / "one"), make(store_type, tmp_path / "other")
    one.start()
    other.start()
    write(one, 1)
    write(other, 2)
    assert (written(one), written(other)) == ([1], [2])
    assert one.url.split("@")[0] != other.url.split("@")[0]


@type_of_store
def test_a_second_server_on_the_same_directory_is_refused(
    store_type: Make, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOCK_TIMEOUT_S", 0.2)
    first, second = make(store_type, tmp_path), make(store_type, tmp_path)
    first.start()
    with pytest.raises(EmbeddedStoreError, match="Another server is running on"):
        second.start()
    assert first.poll() is None


@type_of_store
def test_a_taken_port_is_named(store_type: Make, make: Make, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(EmbeddedStoreError, match=r"choose another port"),
    ):
        make(store_type, tmp_path, taken.getsockname()[1]).start()
    make(store_type, tmp_path).start()


@type_of_store
def test_secrets_are_readable_to_nobody_else(store_type: Make, make: Make, tmp_path: Path) -> None:
    store = make(store_type, tmp_path / "data")
    store.start()
    password = store.url.split(":")[2].split("@")[0]
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / "password").stat().st_mode) == 0o600
    assert password not in Path(f"/proc/{store.pid}/cmdline").read_text()
    assert Path(f"/proc/{store.pid}/environ").read_bytes().count(b"=") <= len(process.ENVIRONMENT) + 2


@type_of_store
def test_the_server_dies_with_its_parent_and_its_successor_waits_for_that(
    store_type: Make, make: Make, tmp_path: Path
) -> None:
    # The thread that called `start` ends long before its process: that must not end the server.
    program = f"""
import sys, threading, time
from pathlib import Path
from {store_type.__module__} import {store_type.__name__}
from storage.process import free_port
store = {store_type.__name__}(Path(sys.argv[1]), free_port())
thread = threading.Thread(target=store.start)
thread.start()
thread.join()
time.sleep(0.3)
print(store.pid, store.poll(), flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, status = parent.stdout.readline().decode().split()
        parent.kill()
    assert status == "None"
    store = make(store_type, tmp_path)
    store.start()
    assert has_ended(int(pid))
    write(store, 1)
    assert written(store) == [1]


def test_redis_has_the_settings_that_the_journal_needs(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedRedis, tmp_path)
    store.start()
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "no",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "save": "",
    }
    with redis.Redis.from_url(store.admin_url) as client:
        settings = client.config_get("*")
    assert {name: settings[name] for name in expected} == expected
    assert int(settings["maxmemory"]) > 0
    with socket.create_connection(("127.0.0.1", port_of(store))) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_the_systems_own_user_of_redis_reaches_its_keys_and_nothing_else(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedRedis, tmp_path)
    store.start()
    with redis.Redis.from_url(store.url) as client:
        client.xadd("mv:{p00}", {"e": b"x"})
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        script = client.register_script("return redis.call(ARGV[1], KEYS[1])")
        assert script(keys=["mv:{p00}"], args=["XLEN"]) == 1
        forbidden: list[Callable[[], Any]] = [
            lambda: client.flushall(),
            lambda: client.flushdb(),
            lambda: client.config_set("appendfsync", "no"),
            lambda: client.config_set("dir", "/tmp"),
            lambda: client.keys("*"),
            lambda: client.shutdown(nosave=True),
            lambda: client.replicaof("127.0.0.1", 1),
            lambda: client.acl_list(),
            lambda: client.execute_command("DEBUG", "SLEEP", "0"),
            lambda: client.execute_command("MODULE", "LIST"),
            lambda: client.set("other", "x"),
            lambda: client.publish("other", "x"),
            lambda: script(keys=["mv:{p00}"], args=["FLUSHALL"]),
            lambda: script(keys=["other"], args=["GET"]),
        ]
        for number, attempt in enumerate(forbidden):
            with pytest.raises(redis.ResponseError, match=r"NOPERM|not allowed|permission|ACL"):
                attempt()
            assert client.xlen("mv:{p00}") == 1, number


def test_postgres_has_the_settings_that_write_behind_needs(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    settings = dict(sql(store, "SELECT name, setting FROM pg_settings"))
    for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert settings[name] == "on"
    assert settings["listen_addresses"] == "127.0.0.1"
    assert "unix_socket_directories=\0" in Path(f"/proc/{store.pid}/cmdline").read_text()  # not shown to this role
    assert settings["max_connections"] == "100"
    assert sql(store, "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user") == [(False, True)]
    assert {"unaccent", "pg_trgm"} <= {name for (name,) in sql(store, "SELECT extname FROM pg_extension")}
    assert sql(store, "SHOW server_encoding") == [("UTF8",)]
    sql(store, "CREATE DATABASE another")
    assert sql(store, "SELECT unaccent('Hoà')", "another") == [("Hoa",)]


@pytest.mark.parametrize("user", ["postgres", "mastervip"])
def test_postgres_lets_nobody_in_without_the_password(user: str, make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    with pytest.raises(asyncpg.InvalidPasswordError), asyncio.Runner() as runner:
        runner.run(asyncpg.connect(host="127.0.0.1", port=port_of(store), user=user, password="", database="mastervip"))


def test_postgres_starts_after_a_kill_though_its_old_number_is_another_process(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    write(store, 1)
    owner = (tmp_path / "cluster").stat().st_uid
    store.kill()
    with subprocess.Popen(["/bin/sleep", "60"], user=owner if os.geteuid() == 0 else None) as unrelated:
        pid_file = tmp_path / "cluster" / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{unrelated.pid}\n", *rest]))
        store.start()
        unrelated.kill()
    assert written(store) == [1]


def test_postgres_half_made_is_made_again(make: Make, tmp_path: Path) -> None:
    half = tmp_path / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    write(store, 1)
    assert written(store) == [1]
    assert not half.exists()


def test_postgres_says_that_its_password_is_gone(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    store.stop()
    (tmp_path / "password").unlink()
    with pytest.raises(EmbeddedStoreError, match=r"password is gone"):
        assert store.url


def test_postgres_says_that_its_data_is_damaged(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedPostgres, tmp_path)
    store.start()
    store.stop()
    (tmp_path / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedStoreError, match=r"(?s)damaged or incomplete.*The end of .*postgres\.log"):
        store.start()


def log_of(directory: Path) -> Path:
    """The append-only file that a stopped Redis wrote last."""
    (path,) = (directory / "appendonlydir").glob("*.incr.aof")
    return path


def test_redis_refuses_a_truncated_log_and_its_advice_works(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedRedis, tmp_path)
    store.start()
    for value in (1, 2, 3):
        write(store, value)
    store.stop()
    whole = log_of(tmp_path).read_bytes()
    log_of(tmp_path).write_bytes(whole[:-4])
    with pytest.raises(
        EmbeddedStoreError, match=r"(?s)damaged.*confirmed to nobody.*The end of .*redis\.log"
    ) as refusal:
        store.start()
    assert log_of(tmp_path).read_bytes() == whole[:-4]
    (command,) = [line.partition("In bash: ")[2] for line in str(refusal.value).splitlines() if "In bash: " in line]
    subprocess.run(["bash", "-c", command], input=b"y\n", check=True, stdout=subprocess.DEVNULL)
    store.start()
    assert written(store) == [1, 2]


def test_redis_cuts_a_torn_write_if_asked_to_and_keeps_what_it_cut(make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedRedis, tmp_path)
    store.start()
    write(store, 1)
    with redis.Redis.from_url(store.admin_url) as client, client.pipeline(transaction=True) as pipe:
        pipe.rpush("kept", 2)
        pipe.rpush("kept", 3)
        pipe.execute()
    store.stop()
    whole = log_of(tmp_path).read_bytes()
    log_of(tmp_path).write_bytes(whole[:-4])
    store.start(cut_torn_write=True)
    assert written(store) == [1]  # a transaction is kept whole or not at all
    (cut,) = tmp_path.glob("cut-*.aof")
    assert log_of(tmp_path).read_bytes() + cut.read_bytes() == whole[:-4]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda log: log.write_bytes(log.read_bytes().replace(b"RPUSH", b"R##PU", 1)[:-9]), id="no such command"
        ),
        pytest.param(lambda log: log.write_bytes(log.read_bytes().replace(b"*3", b"##", 1)), id="not the format"),
        pytest.param(lambda log: log.unlink(), id="file gone"),
    ],
)
def test_redis_does_not_cut_other_damage(damage: Callable[[Path], object], make: Make, tmp_path: Path) -> None:
    store = make(EmbeddedRedis, tmp_path)
    store.start()
    write(store, 1)
    write(store, 2)
    store.stop()
    damage(log_of(tmp_path))
    with pytest.raises(EmbeddedStoreError, match=r"The end of .*redis\.log"):
        store.start(cut_torn_write=True)
    assert not list(tmp_path.glob("cut-*.aof"))


def test_each_test_has_an_empty_database_of_its_own(postgres_database: str) -> None:
    async def tables() -> int:
        connection = await asyncpg.connect(postgres_database)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
        finally:
            await connection.close()

    with asyncio.Runner() as runner:
        assert runner.run(tables()) == 0


def test_a_store_that_was_never_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStoreError, match="has not been started"):
        EmbeddedRedis(tmp_path, 1).poll()


def test_free_ports_can_be_bound() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
