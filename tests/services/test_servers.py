"""The servers themselves: they start, are killed, come back with their data, and leave nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.testing.services import Moto, PostgreSQL, RabbitMQ, Server, ServerError
from qupath_bridge.testing.services import postgresql as postgresql_module
from qupath_bridge.testing.services import rabbitmq as rabbitmq_module

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

LOOPBACK = {"127.0.0.1", "::1"}


class Script(Server):
    """A server that is a line of Python."""

    name = "script"
    patience = 15

    def __init__(self, folder, code):
        super().__init__(folder)
        self.code = code

    @property
    def url(self):
        return f"tcp://127.0.0.1:{self.port}"

    def prepare(self):
        pass

    def command(self):
        return [sys.executable, "-c", self.code]


def processes_of(folder):
    """Return the processes that were started for a folder: its path is in what they were given."""
    found = []
    for process in psutil.process_iter():
        try:
            given = [*process.cmdline(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in text for text in given):
            found.append(process)
    return found


def addresses(folder):
    """Return where the processes of a folder listen."""
    listening = []
    for process in processes_of(folder):
        # Servers have processes that come and go.
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            listening += [
                connection.laddr.ip
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
    assert listening
    return set(listening)


def test_postgresql_keeps_what_was_committed_when_it_is_killed(postgresql, database_url):
    import psycopg

    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE patches (shares jsonb)")
        connection.execute("INSERT INTO patches VALUES ('{\"Tumor\": 0.5}')")
    with psycopg.connect(url) as connection, postgresql.down():
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with psycopg.connect(url) as connection:
        shares = connection.execute("SELECT shares->>'Tumor' FROM patches").fetchone()
    assert shares == ("0.5",)
    assert addresses(postgresql.folder) <= LOOPBACK


def test_each_test_has_a_database_of_its_own(database_url):
    import psycopg

    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    assert tables == (0,)


def test_rabbitmq_keeps_durable_messages_when_it_is_killed(rabbitmq):
    from kombu import Connection, Queue

    queue = Queue("test-durable", durable=True)
    # A message is safe when the broker has confirmed it, and not before.
    options = {"confirm_publish": True}
    with Connection(rabbitmq.url, transport_options=options) as connection:
        with connection.Producer() as producer:
            producer.publish(
                {"slide": 1}, routing_key=queue.name, declare=[queue], delivery_mode=2,
                confirm_timeout=10,
            )  # fmt: skip
        simple = connection.SimpleQueue(queue)
        assert simple.qsize() == 1
    with rabbitmq.down():
        assert not rabbitmq.is_ready()
    with Connection(rabbitmq.url) as connection:
        simple = connection.SimpleQueue(queue)
        message = simple.get(timeout=10)
        assert message.payload == {"slide": 1}
        message.ack()
        simple.queue.delete()
    assert addresses(rabbitmq.folder) <= LOOPBACK


def test_moto_refuses_to_replace_an_object_that_is_there(moto, monkeypatch):
    import boto3
    from botocore.exceptions import ClientError

    for name, value in moto.variables.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="slides")
    place = {"Bucket": "slides", "Key": "run.json"}
    client.put_object(**place, Body=b"one", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(**place, Body=b"two", IfNoneMatch="*")
    assert client.get_object(**place)["Body"].read() == b"one"
    assert addresses(moto.folder) <= LOOPBACK


@pytest.mark.parametrize(
    ("kind", "end"),
    [(PostgreSQL, "stop"), (PostgreSQL, "kill"), (RabbitMQ, "stop"), (Moto, "stop")],
)
def test_a_server_that_was_stopped_leaves_no_process(kind, end, tmp_path):
    try:
        server = kind(tmp_path / "a server").start()
    except MissingDependencyError as error:
        pytest.skip(f"{error} {error.hint}")
    assert processes_of(server.folder)
    if end == "kill":
        server.kill()
        assert not server.is_ready()
    server.stop()
    assert not processes_of(server.folder)
    assert not server.is_running


def test_a_server_that_ends_at_once_shows_its_log(tmp_path):
    server = Script(tmp_path, "print('port is taken'); raise SystemExit(3)")
    with pytest.raises(ServerError, match=r"(?s)ended with status 3\. The end of .*port is taken"):
        server.start()


def test_a_server_that_never_serves_is_killed_and_shows_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(Script, "patience", 0.5)
    server = Script(tmp_path, "import time; print('wait', flush=True); time.sleep(1000)")
    with pytest.raises(ServerError, match=r"not ready after 0\.5 seconds"):
        server.start()
    assert not processes_of(tmp_path)


def test_a_server_that_does_not_end_when_asked_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("qupath_bridge.testing.services.server._END", 0.5)
    server = Script(
        tmp_path,
        "import os, signal, socket, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "listening = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
        "time.sleep(1000)",
    )
    monkeypatch.setenv("PORT", str(server.port))
    server.start().stop()
    assert not processes_of(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="ends with its parent on Linux only")
def test_servers_end_with_a_process_that_was_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from qupath_bridge.testing.services import *\n"
        "Moto(Path(sys.argv[1])).start(); print('ready', flush=True); time.sleep(1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s3")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "ready\n"
        assert processes_of(tmp_path)
        parent.kill()
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root")
def test_no_folder_outside_of_the_temporary_one_is_opened(tmp_path, monkeypatch):
    """PostgreSQL's user must pass the folders above; those of a person stay as they are."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "elsewhere"))
    try:
        server = PostgreSQL(home / "servers")
    except MissingDependencyError as error:
        pytest.skip(f"{error} {error.hint}")
    with pytest.raises(ServerError, match=r"cannot pass .*home: choose a folder in"):
        server.start()
    assert home.stat().st_mode & 0o777 == 0o700


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr(postgresql_module, "_DEBIAN", tmp_path)
    monkeypatch.setattr(rabbitmq_module, "_DEBIAN", tmp_path / "none")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for kind, hint in [(PostgreSQL, "postgresql"), (RabbitMQ, "rabbitmq-server"), (Moto, "moto")]:
        with pytest.raises(MissingDependencyError, match="not installed") as caught:
            kind(tmp_path / "new")
        assert hint in caught.value.hint
    assert not (tmp_path / "new").exists()


def test_the_command_starts_all_and_ctrl_c_stops_all(tmp_path, postgresql, rabbitmq, moto):
    with subprocess.Popen(
        [sys.executable, "-m", "qupath_bridge.testing.services"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as command:  # fmt: skip
        text = "".join(command.stdout.readline() for _ in range(4))
        assert re.search(r"PostgreSQL +postgresql://postgres@127\.0\.0\.1:\d+/postgres\n", text)
        assert re.search(r"RabbitMQ +amqp://guest:guest@127\.0\.0\.1:\d+//\n", text)
        assert re.search(r"moto +http://127\.0\.0\.1:\d+\n", text)
        assert processes_of(tmp_path)
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0
    assert not processes_of(tmp_path)
    assert not list(Path(tmp_path).iterdir())
