"""The status page and /metrics of real servers: read by Prometheus and by a browser, beside what the jobs say."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mover.admin.client import AdminClient
from mover.admin.sessions import SessionStatus, Status, StatusReply
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode
from mover.ndmp.messages import (
    DataStartBackupRequest,
    NotifyMoverPausedPost,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import ALL, Job, pairs
from tests.support.peers import require
from tests.support.processes import settle
from tests.support.servers import Login, Server, mover_command, write_config
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0
MIB = 1 << 20
ANY = "127.0.0.1:0"
TOKEN = "the token of the tests"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    assert server.ready.metrics is not None
    connection = http.client.HTTPConnection(server.ready.metrics, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def scrape(server: Server) -> Samples:
    status, text = get(server, "/metrics")
    assert status == 200, text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Samples, name: str) -> float:
    return sum(value for (each, _), value in found.items() if each == name)


def jobs(server: Server) -> list[dict[str, object]]:
    return msgspec.convert(server.ask("jobs")["jobs"], list[dict[str, object]])


def session(server: Server) -> SessionStatus:
    """Its only one."""
    with AdminClient(server.ready.admin_socket) as client:
        reply = client.ask(Status())
    assert isinstance(reply, StatusReply)
    (found,) = reply.sessions
    return found


def back_up(server: Server, login: Login, source: Path, *, kill: str = "") -> None:
    """A backup to its end; ``kill`` names the worker that is killed in its midst."""
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.READ, window_length=MIB if kill else ALL)
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="y")))
        if kill:
            job.tape.wait_for(NotifyMoverPausedPost)  # its midst, however fast we are
            (pid,) = [each.pid for each in session(server).workers if each.kind == kill]
            os.kill(pid, signal.SIGKILL)
        assert (job.data.data_halted() == DataHaltReason.SUCCESSFUL) is not bool(kill)
        job.tape.mover_halted()
        job.data.hang_up()


# --- the listener


def test_the_port_and_the_token_are_the_configurations(shm: Path, login: Login) -> None:
    secret = shm / "token"
    secret.touch(mode=0o600)
    secret.write_text(f"{TOKEN}\n")
    with Server(write_config(shm / "s", login, metrics=ANY, node=f'metrics_token_file = "{secret}"')) as server:
        assert get(server, "/metrics")[0] == 401
        assert get(server, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        secret.write_text("another token of the tests\n")
        os.kill(server.pid, signal.SIGHUP)
        settle(lambda: get(server, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 401, "new token", DEADLINE_S)
        assert get(server, "/metrics", Authorization="Bearer another token of the tests")[0] == 200
        log = server.log.read_text()
    assert "token of the tests" not in log


def test_a_port_in_use_that_was_asked_for_is_one_line(shm: Path, login: Login) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*mover_command(), "serve", "--config", str(write_config(shm / "s", login, metrics=metrics))],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"mover serve: node.metrics: {metrics}: Address already in use"


def test_a_default_port_in_use_leaves_a_server_without(shm: Path, login: Login) -> None:
    config = write_config(shm / "s", login)
    config.write_text(config.read_text().replace('metrics = ""\n', ""))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(socket.create_server(("127.0.0.1", 9110)))
        except OSError:
            pytest.skip("somebody else has port 9110, for nobody knows how long")
        server = stack.enter_context(Server(config))
        assert server.ready.metrics is None
        assert "no status page and no metrics" in server.log.read_text()


# --- what is counted


def test_an_error_of_a_drive_is_counted(make_server: MakeServer, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "file", size=32 * MIB)  # more than a ring holds: its end waits for the drive
    fault = '[[fault]]\ndrive = "vtl0/drive0"\nkind = "write-error"\nrecord = 5\n'
    server = make_server("server", metrics=ANY, extra=fault)
    assert total(scrape(server), "mover_tape_errors_total") == 0
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        assert job.tape.mover_halted() == MoverHaltReason.MEDIA_ERROR
        assert job.data.data_halted() == DataHaltReason.CONNECT_ERROR
        assert total(scrape(server), "mover_tape_errors_total") == 1
        job.data.hang_up()


# --- Prometheus


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator["Prometheus"]:
    scraping = Prometheus(tmp_path)
    yield scraping
    scraping.stop()


class Prometheus:
    """A Prometheus that scrapes one server every second."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self, target: str, rules: Path) -> None:
        config = self._directory / "prometheus.yml"
        config.write_text(
            f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ '{rules}' ]\n"
            f"scrape_configs: [ {{ job_name: mover, static_configs: [ {{ targets: [ '{target}' ] }} ] }} ]\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        with open(self._directory / "prometheus.log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    require("prometheus"), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{self._port}",
                    f"--storage.tsdb.path={self._directory}/data", "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        settle(self._ready, "prometheus is ready", DEADLINE_S)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        with contextlib.suppress(OSError):
            return self._get("/-/ready")[0] == 200
        return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def query(self, expression: str) -> list[float]:
        """The values of an instant query."""
        status, body = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, body
        return [float(each["value"][1]) for each in json.loads(body)["data"]["result"]]

    def has(self, name: str, wanted: float) -> bool:
        """Whether what was scraped last has this sum."""
        return sum(self.query(name)) == wanted

    def rules(self) -> list[tuple[str, str]]:
        """Name and health of every rule."""
        _, body = self._get("/api/v1/rules")
        groups = json.loads(body)["data"]["groups"]
        return [(rule["name"], rule["health"]) for group in groups for rule in group["rules"]]

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)


@pytest.mark.peer("prometheus")
@pytest.mark.timeout(300)
def test_totals_never_go_back_while_prometheus_looks_on(
    make_server: MakeServer, login: Login, shm: Path, prometheus: Prometheus, checkout: Path
) -> None:
    source, large = shm / "source", shm / "large"
    make_small_files(source, files=100, directories=3)
    large.mkdir()
    make_large_file(large / "file", size=32 * MIB)
    server = make_server("server", metrics=ANY)
    assert server.ready.metrics is not None
    prometheus.start(server.ready.metrics, checkout / "packaging" / "prometheus" / "mover-rules.yml")
    settle(lambda: prometheus.query("up") == [1.0], "scraped", DEADLINE_S)
    before = scrape(server)
    for path, kill in ((source, ""), (large, "data"), (source, ""), (large, "tape"), (source, "")):
        back_up(server, login, path, kill=kill)
        settle(lambda: not any(each["state"] == "running" for each in jobs(server)), "the job is over", DEADLINE_S)
        now = scrape(server)
        back = {key for key, value in before.items() if key[0].endswith("_total") and now.get(key, -1.0) < value}
        assert back == set()
        before = now
    done = jobs(server)
    assert total(before, "mover_data_bytes_total") == sum(int(str(job["stream-bytes"])) for job in done)
    assert total(before, "mover_file_history_entries_total") == sum(int(str(job["history-entries"])) for job in done)
    assert total(before, "mover_jobs_total") == len(done) == 5
    killed = {labels for (name, labels), value in before.items() if name == "mover_worker_exits_total" and value}
    assert (("kind", "data"), ("reason", "signal SIGKILL")) in killed
    assert (("kind", "tape"), ("reason", "signal SIGKILL")) in killed
    totals = {name for name, _ in before if name.endswith("_total")}
    for name in ("mover_data_bytes_total", "mover_files_total", "mover_worker_exits_total"):
        settle(partial(prometheus.has, name, total(before, name)), name, DEADLINE_S)
    assert {name: set(prometheus.query(f"resets({name}[10m])")) for name in totals} == {name: {0.0} for name in totals}
    settle(lambda: all(health == "ok" for _, health in prometheus.rules()), "rules are evaluated", DEADLINE_S)
    assert len(prometheus.rules()) > 0
    print(server.ask("jobs")["jobs"])
