"""Attacks on cartridges and drives while they change hands."""

import socket
import sqlite3
from pathlib import Path

from mover.ndmp.enums import ErrorCode, TapeMode
from mover.ndmp.messages import TapeOpenRequest
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, Server

DEADLINE_S = 30


def admin(server: Server) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE_S)
    connection.connect(server.ready.admin_socket)
    return connection


def test_a_drive_whose_cartridge_is_on_its_way_is_busy(local: Server, login: Login, shm: Path) -> None:
    open_drive = TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR)
    database = sqlite3.connect(shm / "server" / "state" / "mover.sqlite", isolation_level=None)
    with NdmpClient(local.address, login=login) as client:
        for command, then in (("unload", ErrorCode.NO_TAPE_LOADED_ERR), ("load", ErrorCode.NO_ERR)):
            database.execute("BEGIN IMMEDIATE")  # the move waits for it
            with admin(local) as moving:
                try:
                    moving.sendall(b'{"type": "tape-%s", "drive": "vtl0/drive0"}\n' % command.encode())
                    local.ask("version")  # a command that came later is answered, so this one is being done
                    assert client.error(open_drive) == ErrorCode.DEVICE_BUSY_ERR
                finally:
                    database.execute("ROLLBACK")
                assert b'"done"' in moving.recv(65536)
            assert client.error(open_drive) == then
    database.close()
