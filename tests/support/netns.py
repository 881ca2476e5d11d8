"""Two hosts and a DMA in network namespaces of their own, on one switch whose link between the hosts can be cut.

Needs root and iproute2. A port that is isolated at the bridge reaches the bridge itself (where the DMA is) and no
other isolated port, so a cut takes the data connection and leaves both control connections.
"""

import ctypes
import os
import socket
import subprocess
import threading
from types import TracebackType
from typing import Final, Self

CLONE_NEWNET: Final = 0x40000000
HOSTS: Final = {"a": "10.77.0.1", "b": "10.77.0.2"}
DMA_ADDRESS: Final = "10.77.0.3"


class Network:
    """A context manager: made on entry, gone on exit.

    Attributes:
        names: of the namespaces, by host: "a", "b", and "dma".
    """

    def __init__(self) -> None:
        self.names = {host: f"mover-{host}-{os.getpid()}" for host in (*HOSTS, "dma")}

    def __enter__(self) -> Self:
        switch = self.names["dma"]
        try:
            for name in self.names.values():
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", switch, "link", "add", "br0", "type", "bridge")
            for host, address in HOSTS.items():
                _ip(
                    "-n",
                    switch,
                    "link",
                    "add",
                    f"v{host}",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    self.names[host],
                )
                _ip("-n", switch, "link", "set", f"v{host}", "master", "br0", "up")
                _ip("-n", self.names[host], "addr", "add", f"{address}/24", "dev", "eth0")
                _ip("-n", self.names[host], "link", "set", "eth0", "up")
            _ip("-n", switch, "addr", "add", f"{DMA_ADDRESS}/24", "dev", "br0")
            _ip("-n", switch, "link", "set", "br0", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def command(self, host: str) -> list[str]:
        """What to put before a command that shall run on a host."""
        return ["ip", "netns", "exec", self.names[host]]

    def connect(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """A connection made by the DMA: the socket stays in its namespace wherever it is used."""
        made: list[socket.socket | BaseException] = []

        def run() -> None:
            try:
                with open(f"/var/run/netns/{self.names['dma']}") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.create_connection(address, timeout_s))
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                made.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        (result,) = made
        if isinstance(result, BaseException):
            raise result
        return result

    def cut(self) -> None:
        """From now on no packet passes between the two hosts."""
        for host in HOSTS:
            subprocess.run(
                ["bridge", "-n", self.names["dma"], "link", "set", "dev", f"v{host}", "isolated", "on"], check=True
            )


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
