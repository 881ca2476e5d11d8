"""Two hosts and a DMA in network namespaces of their own, on one switch: the link between the hosts can be cut or made
slow, and each host can have a firewall.

Needs root and iproute2. A port that is isolated at the bridge reaches the bridge itself (where the DMA is) and no
other isolated port, so a cut takes the data connection and leaves both control connections.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

CLONE_NEWNET: Final = 0x40000000
HOSTS: Final = {"a": "10.77.0.1", "b": "10.77.0.2"}
HOSTS_IPV6: Final = {"a": "fd77::1", "b": "fd77::2"}
DMA_ADDRESS: Final = "10.77.0.3"
DMA_ADDRESS_IPV6: Final = "fd77::3"

Made = TypeVar("Made")


class Network:
    """A context manager: made on entry, gone on exit.

    Attributes:
        names: of the namespaces, by host: "a", "b", and "dma".
        ipv6: the kernel has it: the addresses of HOSTS_IPV6 are there too.
    """

    def __init__(self) -> None:
        self.names = {host: f"mover-{host}-{os.getpid()}" for host in (*HOSTS, "dma")}
        self.ipv6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")

    def __enter__(self) -> Self:
        switch = self.names["dma"]
        try:
            for name in self.names.values():
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", switch, "link", "add", "br0", "type", "bridge")
            for host in HOSTS:
                here = self.names[host]
                veth = ["type", "veth", "peer", "name", "eth0", "netns", here]
                _ip("-n", switch, "link", "add", f"v{host}", *veth)
                _ip("-n", switch, "link", "set", f"v{host}", "master", "br0", "up")
                self._give_addresses(here, "eth0", HOSTS[host], HOSTS_IPV6[host])
                _ip("-n", here, "link", "set", "eth0", "up")
            self._give_addresses(switch, "br0", DMA_ADDRESS, DMA_ADDRESS_IPV6)
            _ip("-n", switch, "link", "set", "br0", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _give_addresses(self, name: str, device: str, address: str, address_ipv6: str) -> None:
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
        if self.ipv6:  # usable at once: nobody else is there who could have the same one
            _ip("-n", name, "addr", "add", f"{address_ipv6}/64", "dev", device, "nodad")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def command(self, host: str) -> list[str]:
        """What to put before a command that shall run on a host."""
        return ["ip", "netns", "exec", self.names[host]]

    def on(self, host: str, make: Callable[[], Made]) -> Made:
        """Call ``make`` on a host, in a thread: a socket that it makes stays there wherever it is used."""
        made: list[Made] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with open(f"/var/run/netns/{self.names[host]}") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def connect(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """A connection made by the DMA."""
        return self.on("dma", lambda: socket.create_connection(address, timeout_s))

    def cut(self) -> None:
        """From now on no packet passes between the two hosts."""
        for host in HOSTS:
            subprocess.run(
                ["bridge", "-n", self.names["dma"], "link", "set", "dev", f"v{host}", "isolated", "on"], check=True
            )

    def slow_down(self, host: str, bytes_per_s: int) -> None:
        """From now on a host sends no faster than this, to anybody (a token bucket of 64 KiB)."""
        limit = ["tbf", "rate", f"{8 * bytes_per_s}bit", "burst", "64kb", "latency", "50ms"]
        _run(*self.command(host), "tc", "qdisc", "replace", "dev", "eth0", "root", *limit)

    def speed_up(self, host: str) -> None:
        """Undo ``slow_down``."""
        _run(*self.command(host), "tc", "qdisc", "del", "dev", "eth0", "root")

    def shut(self, host: str, *open_ports: str) -> None:
        """A firewall: from now on the host takes TCP connections at these ports alone, and answers to its own.

        Args:
            open_ports: as iptables has them, ``10000`` or ``18600:18699``.
        """
        for program in ("iptables", *(["ip6tables"] if self.ipv6 else [])):
            table = [*self.command(host), program, "-w"]
            rules = [["-i", "lo"], ["-p", "tcp", "!", "--syn"]]
            rules += [["-p", "tcp", "--dport", ports] for ports in open_ports]
            if program == "ip6tables":
                rules.append(["-p", "icmpv6"])  # neighbours find each other by it
            for rule in rules:
                _run(*table, "-A", "INPUT", *rule, "-j", "ACCEPT")
            _run(*table, "-P", "INPUT", "DROP")


def missing_programs(*programs: str) -> str:
    """Why a test that runs these as root is to be skipped; "" = it is not."""
    missing = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
