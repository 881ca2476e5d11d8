"""Each check of `mover doctor`, where all is well and where it is not."""

import ctypes
import datetime
import errno
import os
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple  # Any: a key of the configuration

import msgspec.structs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import mover
from mover.admin.accounts import UserShow, UserShowReply, UserStatus
from mover.admin.messages import Reply, Request, Version, VersionReply
from mover.admin.tapes import (
    CartridgeStatus,
    DriveStatus,
    LibraryShow,
    LibraryShowReply,
    LibraryStatus,
    TapeShow,
    TapeShowReply,
)
from mover.config import Config
from mover.config.model import Changer, DataConnections, Drive, Library, Lif, Limits, Node, Snapshot, Tls, User
from mover.config.values import PortRange
from mover.doctor import devices, examination, network, places, rights, service
from mover.doctor.examination import CHECKS, examine
from mover.doctor.finding import Finding, good
from mover.doctor.patient import Patient
from tests.admin.control import FakeControl

Check = Callable[[Patient], Iterator[Finding]]
SERVER = VersionReply(mover.__version__, "n1", os.getpid(), [1, 2, 3, 4])


def node(tmp_path: Path, **keys: Any) -> Node:
    """A node with directories of its own, without a status page."""
    usual: dict[str, Any] = {
        "state_directory": str(tmp_path / "state"), "admin_socket": str(tmp_path / "socket"), "metrics": "",
    }  # fmt: skip
    return Node(**(usual | keys))


def levels(check: Check, patient: Patient) -> dict[str, str]:
    """How bad each thing is."""
    return {finding.subject: finding.level for finding in check(patient)}


def only(check: Check, patient: Patient) -> Finding:
    """The one finding."""
    (finding,) = check(patient)
    return finding


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which somebody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_directories_that_are_not_there(tmp_path: Path) -> None:
    well = Config(node=node(tmp_path, volumes={"srv": str(tmp_path)}))
    assert only(places.environment, Patient(well)).level == "ok"
    ill = Config(node=node(tmp_path, volumes={"srv": str(tmp_path / "gone")}))
    finding = only(places.environment, Patient(ill))
    assert (finding.level, finding.subject) == ("error", "node.volumes.srv")


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("full", "empty", "unmounted"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "fstab").write_text(
        f"# {tmp_path}/full x x defaults 0 0\nLABEL=a {tmp_path}/unmounted ext4 defaults 0 2\n"
        f"LABEL=b {tmp_path}/empty ext4 noauto,ro 0 2\nshort line\n"
    )
    monkeypatch.setattr(places, "_FSTAB", str(tmp_path / "fstab"))
    names = ("full", "empty", "unmounted", "gone")
    config = Config(node=node(tmp_path, volumes={name: str(tmp_path / name) for name in names}))
    assert levels(places.volumes, Patient(config)) == {
        "volume full": "ok", "volume empty": "warning", "volume unmounted": "error", "volume gone": "error",
    }  # fmt: skip
    assert only(places.volumes, Patient(Config(node=node(tmp_path)))).level == "warning"


def test_programs_of_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_TOOLS", {"btrfs": "sh", "zfs": "no-such-program"})
    kinds = {"a": "btrfs", "b": "zfs", "c": "none"}
    snapshots = [Snapshot(volume=name, kind=kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    found = levels(places.snapshots, Patient(Config(snapshot=snapshots)))
    assert found == {"snapshot of a": "ok", "snapshot of b": "error"}


def test_libraries(tmp_path: Path) -> None:
    (tmp_path / "A1.tap").touch()
    huge = 1 << 60

    def library(**keys: Any) -> str:
        one = Library(name="v", directory=str(tmp_path), **keys)
        return only(places.libraries, Patient(Config(library=[one]))).level

    assert library(cartridge_size=1 << 10, early_warning=1 << 9) == "ok"
    assert library(cartridge_size=huge, early_warning=1 << 9) == "warning"
    assert library(cartridge_size=huge, early_warning=huge) == "error"
    gone = Config(library=[Library(name="v", directory=str(tmp_path / "gone"))])
    assert only(places.libraries, Patient(gone)).level == "error"


def test_a_cartridge_that_was_not_closed(tmp_path: Path) -> None:
    row = CartridgeStatus(barcode="A1", library="v", path="/x/A1.tap", unflushed=True)
    finding = only(places.libraries, Patient(Config(), tapes=TapeShowReply([], [row])))
    assert (finding.level, finding.action) == ("warning", "mover tape verify /x/A1.tap")


def test_the_state_directory(tmp_path: Path) -> None:
    patient = Patient(Config(node=node(tmp_path)))
    assert only(places.state, patient).level == "ok"  # made at the first start
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    assert levels(places.state, patient)["database"] == "ok"
    with closing(sqlite3.connect(state / "mover.sqlite")) as database:
        database.execute("CREATE TABLE t (x)")
        database.commit()
    assert set(levels(places.state, patient).values()) <= {"ok", "warning"}  # the disk may be nearly full
    (state / "mover.sqlite").write_bytes(b"no database" * 1000)
    assert levels(places.state, patient)["database"] == "error"
    state.chmod(0o777)
    assert levels(places.state, patient)["state directory"] == "error"


class FileSystem(NamedTuple):
    """What statvfs says."""

    f_flag: int
    f_bavail: int
    f_frsize: int = 1


@pytest.mark.parametrize(
    ("told", "levels_of_both"),
    [
        (FileSystem(os.ST_RDONLY, 1 << 50), {"state directory": "error", "library v": "error"}),
        (FileSystem(0, 1 << 20), {"state directory": "warning", "library v": "error"}),
        (FileSystem(0, 1 << 50), {"state directory": "ok", "library v": "ok"}),
    ],
)
def test_disks_that_are_full_or_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: FileSystem, levels_of_both: dict[str, str]
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr(os, "statvfs", lambda _path: told)
    patient = Patient(Config(node=node(tmp_path), library=[Library(name="v", directory=str(tmp_path))]))
    found = levels(places.state, patient) | levels(places.libraries, patient)
    assert {subject: found[subject] for subject in levels_of_both} == levels_of_both


def test_a_state_directory_that_may_not_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    patient = Patient(Config(node=node(tmp_path, state_directory=str(tmp_path / "file" / "state"))))
    finding = only(places.state, patient)
    assert (finding.level, finding.subject) == ("error", "state directory")


def test_a_port_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_listen", lambda _address, _port: errno.EACCES)
    finding = only(network.lifs, Patient(Config(lif=[Lif(name="l", port=100)])))
    assert (finding.level, finding.text) == ("error", "Permission denied")


def test_lifs(taken: int) -> None:
    lif = [
        Lif(name="free", port=0),
        Lif(name="taken", port=taken),
        Lif(name="elsewhere", address="192.0.2.77", port=0),
    ]
    found = {finding.subject.partition(",")[0]: finding for finding in network.lifs(Patient(Config(lif=lif)))}
    assert {name: finding.level for name, finding in found.items()} == {
        "LIF free": "ok", "LIF taken": "error", "LIF elsewhere": "error",
    }  # fmt: skip
    running = Patient(Config(lif=lif[1:2]), SERVER)
    assert only(network.lifs, running).level == "ok"


def test_a_port_where_the_running_server_does_not_listen() -> None:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert only(network.lifs, Patient(Config(lif=[Lif(name="l", port=port)]), SERVER)).level == "error"


def test_data_ports(taken: int) -> None:
    def found(ports: PortRange, sessions: int = 1) -> str:
        config = Config(data_connections=DataConnections(port_range=ports), limits=Limits(sessions=sessions))
        return only(network.data_ports, Patient(config)).level

    assert found(PortRange(0, 0)) == "ok"
    assert found(PortRange(taken, taken)) == "error"
    assert found(PortRange(20_000, 20_049), sessions=64) == "warning"
    assert found(PortRange(20_000, 20_099), sessions=64) == "ok"


def test_who_may_come() -> None:
    assert only(network.strangers, Patient(Config())).level == "ok"
    everybody = DataConnections(allow=["lan", "0.0.0.0/0"])
    assert only(network.strangers, Patient(Config(data_connections=everybody))).level == "warning"
    with_token = Config(node=Node(data_connection_encryption="required"), data_connections=everybody)
    assert only(network.strangers, Patient(with_token)).level == "ok"
    no_login = Config(node=Node(authtype=["none"]), lif=[Lif(name="l", address="192.0.2.1")])
    assert levels(network.strangers, Patient(no_login))["LIF l"] == "error"


def certificate(path: Path, days: int) -> Tls:
    """A certificate that is valid for so many days from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path = path.with_suffix(".key")
    key_path.touch(mode=0o600)
    return Tls(certificate=str(path), key=str(key_path))


@pytest.mark.parametrize(("days", "level"), [(100, "ok"), (10, "warning"), (-1, "error")])
def test_the_age_of_a_certificate(tmp_path: Path, days: int, level: str) -> None:
    secure = node(tmp_path, is_secure_control_connection_enabled=True)
    config = Config(node=secure, tls=certificate(tmp_path / "c.pem", days))
    assert only(network.certificates, Patient(config)).level == level


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    secure = node(tmp_path, is_secure_control_connection_enabled=True)
    assert not list(network.certificates(Patient(Config(node=node(tmp_path)))))
    assert only(network.certificates, Patient(Config(node=secure))).level == "ok"  # made at the first start
    tls = certificate(tmp_path / "c.pem", 100)
    os.chmod(tls.key, 0o644)
    assert next(network.certificates(Patient(Config(node=secure, tls=tls)))).level == "error"
    os.chmod(tls.key, 0o600)
    (tmp_path / "c.pem").write_text("no certificate")
    assert only(network.certificates, Patient(Config(node=secure, tls=tls))).level == "error"
    os.unlink(tls.key)
    assert only(network.certificates, Patient(Config(node=secure, tls=tls))).level == "error"


def test_metrics(tmp_path: Path, taken: int) -> None:
    at = node(tmp_path, metrics=f"127.0.0.1:{taken}")
    assert only(network.metrics, Patient(Config(node=node(tmp_path)))).level == "ok"
    assert only(network.metrics, Patient(Config(node=at))).level == "warning"


def test_metrics_of_a_running_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "METRICS_S", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        patient = Patient(Config(node=node(tmp_path, metrics=f"127.0.0.1:{listener.getsockname()[1]}")), SERVER)
        assert only(network.metrics, patient).level == "warning"  # it takes the connection and says nothing

        listener.accept()[0].close()
        monkeypatch.setattr(network, "METRICS_S", 30.0)
        for status, level in (("200 OK", "ok"), ("401 No", "ok"), ("503 None", "warning"), ("404 Other", "warning")):
            thread = threading.Thread(target=answer_once, args=(listener, status), daemon=True)
            thread.start()
            assert only(network.metrics, patient).level == level, status
            thread.join(30)


def answer_once(listener: socket.socket, status: str) -> None:
    """One request of HTTP."""
    with listener.accept()[0] as sock:
        sock.recv(4096)
        sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def test_devices(tmp_path: Path, taken: int) -> None:
    file = tmp_path / "file"
    file.touch()
    target = f"iscsi://127.0.0.1:{taken}/iqn.2026-01.x/1"
    config = Config(
        drive=[
            Drive(name="null", device="/dev/null"),
            Drive(name="gone", device=str(tmp_path / "nst9")),
            Drive(name="file", device=str(file)),
            Drive(name="own", device=f"virtual:{file}"),
            Drive(name="net", device=target),
        ],
        changer=[Changer(name="mc", device="iscsi://127.0.0.1:1/iqn.2026-01.x/1")],
    )
    assert levels(devices.nodes, Patient(config)) == {
        "drive null": "ok", "drive gone": "error", "drive file": "error", "drive net": "ok", "changer mc": "error",
    }  # fmt: skip


def test_a_device_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    finding = only(devices.nodes, Patient(Config(drive=[Drive(name="null", device="/dev/null")])))
    assert (finding.level, finding.subject) == ("error", "drive null")


def test_devices_that_hang() -> None:
    drive = DriveStatus(name="d", state="hung", hung_since=1.0)
    well = DriveStatus(name="e", state="empty")
    changer = LibraryStatus(name="l", directory="/dev/sg1", changer="mc", elements=[], error="no answer")
    patient = Patient(Config(), SERVER, TapeShowReply([drive, well], []), LibraryShowReply([changer]))
    assert levels(devices.hung, patient) == {"drive d": "error", "changer mc": "warning"}
    assert only(devices.hung, Patient(Config(), SERVER, TapeShowReply([well], []))).level == "ok"
    assert not list(devices.hung(Patient(Config())))


def test_the_server(tmp_path: Path) -> None:
    assert only(service.server, Patient(Config(), silent="nobody")).level == "warning"
    assert only(service.server, Patient(Config(), SERVER)).level == "ok"
    other = msgspec.structs.replace(SERVER, version="0.0.1")
    assert only(service.server, Patient(Config(), other)).level == "warning"
    assert levels(service.server, Patient(Config(), SERVER, unasked=("TapeShow: no",)))["server"] == "error"


def test_users() -> None:
    def row(user: str, password: str) -> UserStatus:
        return UserStatus(
            user=user, role="backup", vservers=[], source="local", authentication_method="password",
            ndmp_password=password,  # type: ignore[arg-type]
        )  # fmt: skip

    assert only(service.users, Patient(Config())).level == "warning"
    assert not list(service.users(Patient(Config(user=[User(name="u")]))))
    assert only(service.users, Patient(Config(), SERVER, users=UserShowReply([]))).level == "warning"
    reply = UserShowReply([row("a", "valid"), row("b", "stale")])
    found = levels(service.users, Patient(Config(), SERVER, users=reply))
    assert found == {"user b": "warning", "users": "ok"}


def test_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Patient(Config(node=node(tmp_path, volumes={"v": str(tmp_path)})))
    assert only(rights.capabilities, Patient(Config())).level == "ok"
    monkeypatch.setattr(rights, "_status", lambda _pid: {"CapPrm": "000001ffffffffff"})
    assert set(levels(rights.capabilities, some).values()) == {"ok"}
    monkeypatch.setattr(rights, "_status", lambda _pid: {"CapPrm": "0000000000000004"})
    assert levels(rights.capabilities, some) == {"rights to back up": "ok", "rights to recover": "warning"}
    monkeypatch.setattr(rights, "_status", lambda _pid: {"CapPrm": "0000000000000000"})
    assert set(levels(rights.capabilities, some).values()) == {"warning"}


def test_descriptors_and_memory() -> None:
    assert only(rights.descriptors, Patient(Config(limits=Limits(sessions=1)))).level == "ok"
    assert only(rights.descriptors, Patient(Config(limits=Limits(sessions=1)), SERVER)).level in {"ok", "warning"}
    assert only(rights.memory, Patient(Config())).level == "ok"
    huge = Config(drive=[Drive(name="d", device="/dev/nst0", ring=1 << 60)])
    assert only(rights.memory, Patient(huge)).level == "error"


def test_too_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (16, 16))
    assert only(rights.descriptors, Patient(Config())).level == "warning"


@pytest.mark.parametrize(("abi", "level"), [(0, "warning"), (1, "warning"), (7, "ok")])
def test_the_kernel(monkeypatch: pytest.MonkeyPatch, abi: int, level: str) -> None:
    monkeypatch.setattr(rights, "landlock_abi", lambda: abi)
    monkeypatch.setattr(rights, "mounts_refused", lambda: None)
    assert only(rights.kernel, Patient(Config())).level == level


def test_recovers_without_mounts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "landlock_abi", lambda: 7)
    monkeypatch.setattr(rights, "mounts_refused", lambda: "unshare: Operation not permitted")
    good, refused = rights.kernel(Patient(Config()))
    assert (good.level, refused.level) == ("ok", "warning")
    assert "unshare: Operation not permitted" in refused.text


@pytest.mark.parametrize(("state", "level"), [(0, "ok"), (rights.TIME_ERROR, "warning")])
def test_the_clock(monkeypatch: pytest.MonkeyPatch, state: int, level: str) -> None:
    kernel = SimpleNamespace(adjtimex=lambda _buffer: state)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: kernel)
    assert only(rights.clock, Patient(Config())).level == level
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert only(rights.clock, Patient(Config())).level == "error"


def test_the_kernel_tells_of_its_clock() -> None:
    assert only(rights.clock, Patient(Config())).level in {"ok", "warning"}


def test_what_hangs_or_fails_costs_its_own_check_only(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()

    def hangs(_patient: Patient) -> Iterator[Finding]:
        yield good("first", "seen")
        leave.wait(60)

    def fails(_patient: Patient) -> Iterator[Finding]:
        yield good("before", "seen")
        raise RuntimeError("of its own")

    monkeypatch.setattr(examination, "CHECKS", {"hangs": hangs, "fails": fails, "well": rights.kernel})
    found = list(examine(Patient(Config()), deadline_s=0.2))
    leave.set()
    assert [name for name, _ in found] == ["hangs", "hangs", "fails", "fails", "well"]
    assert [finding.level for _, finding in found[:4]] == ["ok", "error", "ok", "error"]
    assert "RuntimeError: of its own" in found[3][1].text


def test_the_whole_examination_has_every_check() -> None:
    assert len({id(check) for check in CHECKS.values()}) == len(CHECKS)


def test_it_meets_a_server_that_answers_in_part(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply | bytes:
        match request:
            case Version():
                return SERVER
            case TapeShow():
                return TapeShowReply([], [])
            case LibraryShow():
                return b""  # it ends the connection
            case UserShow():
                return UserShowReply([])
        raise AssertionError(request)

    path = str(tmp_path / "socket")
    with FakeControl(path, answer):
        patient = Patient.meet(Config(), path)
    assert patient.server == SERVER
    assert patient.tapes is not None
    assert patient.libraries is None
    assert any("LibraryShow" in line for line in patient.unasked)
    assert "no control process" in Patient.meet(Config(), str(tmp_path / "none")).silent
