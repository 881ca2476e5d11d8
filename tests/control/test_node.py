"""What all connections share."""

import os
from types import SimpleNamespace
from typing import cast

import pytest

from mover.config import Config
from mover.config.model import Node as NodeTable
from mover.control.connection import Connection
from mover.control.drives import Devices
from mover.control.node import Node
from mover.control.workers import Supervisor
from mover.workers.data_messages import Place


class _Socket:
    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 10000

    getpeername = getsockname


class _Stream:
    socket = _Socket()


def configured(directory: str) -> Config:
    return Config(node=NodeTable(volumes={"v": directory}))


def test_a_connection_asks_no_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = cast("Devices", SimpleNamespace(rehearse=lambda faults: None))
    node = Node(configured("/before"), cast("Supervisor", SimpleNamespace()), devices)  # that is not looked at
    realpath, asked = os.path.realpath, list[object]()

    def asking(path: bytes) -> bytes:
        asked.append(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", asking)
    first = Connection(node, _Stream())  # type: ignore[arg-type]  # two names of a socket are all that is asked for
    assert asked == []
    node.configure(configured("/behind"))
    assert asked == [b"/behind"]
    second = Connection(node, _Stream())  # type: ignore[arg-type]  # as above
    assert first.volumes.place(b"/before/x") == Place(b"/before", b"x")  # the one it began with
    assert second.volumes.place(b"/behind/x") == Place(b"/behind", b"x")
    assert asked == [b"/behind"]
