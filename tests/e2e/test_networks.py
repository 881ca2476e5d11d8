"""Three-way jobs between two hosts with addresses of their own and a firewall each, and what goes over the wire there.

Needs root: network namespaces, and a look at their packets.
"""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import pytest

from mover.admin import messages as a
from mover.config.values import PortRange
from mover.ndmp.address_env import encryption
from mover.ndmp.enums import AddressType, DataHaltReason, MoverHaltReason, MoverMode, TapeMode, TapeOperation
from mover.ndmp.extensions import CAE
from mover.ndmp.messages import (
    ConfigGetExtListRequest,
    ConfigSetExtListRequest,
    DataConnectRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataListenReply,
    DataListenRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    MoverConnectRequest,
    MoverListenReply,
    MoverListenRequest,
    MoverReadRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    RecoverName,
    SelectedExt,
    TapeMtioRequest,
    TapeOpenRequest,
    TcpAddress,
    TcpIpv6Address,
)
from tests.control.test_logins import ask
from tests.support.namespaces import HOSTS, HOSTS_IPV6, Network, missing_programs
from tests.support.ndmp_client import ALL, DEADLINE_S, RECORD_SIZE, NdmpClient, pairs
from tests.support.servers import Login, Server, mover_command, write_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(bool(missing_programs("ip", "iptables")), reason=missing_programs("ip", "iptables") or "-"),
]

NDMP_PORT: Final = 10000
SECURE_PORT: Final = 30000
DATA_PORTS: Final = PortRange(18600, 18603)
MARKER: Final = b"<these words are in a file of the tests>"
PACKET_BYTES: Final = 1 << 17
ETH_P_ALL: Final = 3


class Packets:
    """A look at all that passes one interface of the switch; a context manager.

    Attributes:
        ports: of TCP that something came for.
        marked: packets that hold MARKER.
    """

    def __init__(self, network: Network, interface: str) -> None:
        self.ports: set[int] = set()
        self.marked = 0
        self.count = 0

        def look() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
            made.bind((interface, ETH_P_ALL))
            made.settimeout(0.2)
            return made

        self._socket = network.on("dma", look)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while True:
            try:
                packet = self._socket.recv(PACKET_BYTES)
            except TimeoutError:
                if self._over.is_set():
                    return
                continue
            self.count += 1
            self.marked += MARKER in packet
            header = 40 if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)
            protocol = packet[6] if packet[0] >> 4 == 6 else packet[9]
            if protocol == socket.IPPROTO_TCP:
                self.ports.add(int.from_bytes(packet[header + 2 : header + 4], "big"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


class Hosts:
    """A file server and a tape host, each behind a firewall."""

    def __init__(self, network: Network, servers: dict[str, Server], login: Login) -> None:
        self.network = network
        self.servers = servers
        self.login = login

    def client(self, host: str, *, secure: bool) -> NdmpClient:
        """A control connection of the DMA, with the extension for IPv6 chosen."""
        plain = self.network.connect((HOSTS[host], SECURE_PORT if secure else NDMP_PORT), DEADLINE_S)
        if secure:
            certificate = self.servers[host].config.parent / "state" / "tls-certificate.pem"
            context = ssl.create_default_context(cafile=str(certificate))
            plain = context.wrap_socket(plain, server_hostname=HOSTS[host])
        client = NdmpClient(self.servers[host].address, login=self.login, connection=plain)
        if self.network.ipv6:
            client.ok(ConfigGetExtListRequest())
            client.ok(ConfigSetExtListRequest((SelectedExt(CAE, 1),)))
        return client


@pytest.fixture(scope="module")
def hosts(shared_shm: Path, login: Login) -> Iterator[Hosts]:
    for number in range(8):
        (shared_shm / "source" / f"marked{number}").write_bytes(MARKER * 5000)
    secure = "is_secure_control_connection_enabled = true"
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        servers = {}
        for host, address in HOSTS.items():
            extra = (
                f'[[lif]]\nname = "six"\naddress = "{HOSTS_IPV6[host]}"\nport = {NDMP_PORT}\nrole = "intercluster"\n'
            )
            config = write_config(
                shared_shm / host, login, volumes={"shm": shared_shm}, drives=1, address=address, node=secure,
                extra=extra if network.ipv6 else "",
            )  # fmt: skip
            text = config.read_text().replace(
                'port_range = "all"', f'port_range = "{DATA_PORTS.first}-{DATA_PORTS.last}"'
            )
            config.write_text(text.replace("port = 0\n", f"port = {NDMP_PORT}\n"))
            network.shut(host, str(NDMP_PORT), str(SECURE_PORT), f"{DATA_PORTS.first}:{DATA_PORTS.last}")
            servers[host] = stack.enter_context(Server(config, prefix=network.command(host)))
        servers["b"].ask("tape", "load", "vtl0/drive0")
        yield Hosts(network, servers, login)


def listen(client: NdmpClient, kind: AddressType, mode: MoverMode | None) -> TcpAddress | TcpIpv6Address:
    """DATA_LISTEN, or MOVER_LISTEN with a mode."""
    reply = client.ok(DataListenRequest(kind) if mode is None else MoverListenRequest(mode, kind))
    assert isinstance(reply, DataListenReply | MoverListenReply)
    address = reply.data_connection_addr
    assert isinstance(address, TcpAddress | TcpIpv6Address)
    assert address.endpoints[0].port in range(DATA_PORTS.first, DATA_PORTS.last + 1)
    return address


def join(data: NdmpClient, tape: NdmpClient, kind: AddressType, mode: MoverMode) -> str:
    """The mover listens for a backup and the data service for a recover; how the data connection is encrypted."""
    tape.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR if mode.writes_tape else TapeMode.READ))
    tape.ok(TapeMtioRequest(TapeOperation.REW, 1))
    tape.ok(MoverSetRecordSizeRequest(RECORD_SIZE))
    tape.ok(MoverSetWindowRequest(0, ALL))
    if mode.writes_tape:
        data.ok(DataConnectRequest(listen(tape, kind, mode)))
    else:
        tape.ok(MoverConnectRequest(mode, listen(data, kind, None)))
    state = data.ok(DataGetStateRequest())
    assert isinstance(state, DataGetStateReply)
    return encryption(state.data_connection_addr)


def finish(data: NdmpClient, tape: NdmpClient) -> None:
    assert data.data_halted() == DataHaltReason.SUCCESSFUL, data.log()
    assert tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED, tape.log()
    data.hang_up()
    tape.hang_up()


@pytest.mark.parametrize("secure", [False, True], ids=["in clear", "encrypted"])
@pytest.mark.parametrize("kind", [AddressType.TCP, AddressType.TCP_IPV6], ids=["IPv4", "IPv6"])
def test_a_job_through_firewalls(kind: AddressType, secure: bool, hosts: Hosts, shared_shm: Path) -> None:
    """What is in the files is seen on the wire in clear, and not where the control connections are secure."""
    if kind is AddressType.TCP_IPV6 and not hosts.network.ipv6:
        pytest.skip("this kernel has no IPv6")
    source, target = shared_shm / "source", shared_shm / f"target-{kind}-{secure}"
    how = "TLSv1.3" if secure else ""
    with Packets(hosts.network, "va") as packets:
        with hosts.client("a", secure=secure) as data, hosts.client("b", secure=secure) as tape:
            assert join(data, tape, kind, MoverMode.READ) == how
            data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="n")))
            finish(data, tape)
        with hosts.client("a", secure=secure) as data, hosts.client("b", secure=secure) as tape:
            assert join(data, tape, kind, MoverMode.WRITE) == how
            names = (RecoverName(b"", str(target).encode()),)
            data.ok(DataStartRecoverRequest(pairs(FILESYSTEM=str(source)), names, b"dump"))
            tape.ok(MoverReadRequest(0, ALL))
            finish(data, tape)
    (found,) = target.rglob("marked7")
    assert found.read_bytes() == MARKER * 5000
    assert any(port in range(DATA_PORTS.first, DATA_PORTS.last + 1) for port in packets.ports)
    assert (packets.marked == 0) is secure, (packets.marked, packets.count)


def test_the_builtin_dma_over_tls(hosts: Hosts, shared_shm: Path) -> None:
    servers = hosts.servers
    fingerprints = [ask(server, a.Version(), a.VersionReply).certificate_fingerprint for server in servers.values()]
    password = shared_shm / "password"
    password.touch(mode=0o600)
    password.write_text(hosts.login.password)
    common = [
        "--host", HOSTS["a"], "--tape-host", HOSTS["b"], "--drive", "vtl0/drive0", "--user", hosts.login.user,
        "--password-file", str(password), "--catalogue", str(shared_shm / "catalogue"), "--tls",
        *(word for each in fingerprints for word in ("--fingerprint", each)),
    ]  # fmt: skip
    with Packets(hosts.network, "va") as packets:
        for words in (
            ["backup", str(shared_shm / "source"), "--overwrite"],
            ["recover", "--destination", str(shared_shm / "dma-target")],
        ):
            done = subprocess.run(
                [*hosts.network.command("dma"), *mover_command(), *words, *common],
                capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "encrypted by TLSv1.3, warnings: 0" in done.stdout
    assert packets.count > 0
    assert packets.marked == 0
    (found,) = (shared_shm / "dma-target").rglob("marked7")
    assert found.read_bytes() == MARKER * 5000
