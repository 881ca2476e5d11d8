"""Operators at a real changer and its drives, tgtd's over iSCSI: library show, inventory, move, tape load and unload.

tgtd's report of its drives is 8 bytes short, so that the serial number of the last one is not known.
"""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ndmp_client import NdmpClient
from tests.support.processes import settle
from tests.support.robot import close_device, open_device
from tests.support.servers import Login, Server, ServerError, write_config
from tests.support.tgtd import PROGRAMS, Tgtd, running_library

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def tgtd() -> Iterator[Tgtd]:
    with running_library() as running:
        yield running


@pytest.fixture(scope="module")
def server(tgtd: Tgtd, login: Login) -> Iterator[Server]:
    """The changer, its first drive, and a changer that is not there."""
    extra = (
        f'[[changer]]\nname = "mc0"\ndevice = "{tgtd.changer_url}"\n'
        f'[[changer]]\nname = "gone"\ndevice = "{tgtd.url(9)}"\ntimeout_s = 5\n'
        f'[[changer]]\nname = "mc1"\ndevice = "{tgtd.changer_url}"\ntimeout_s = 1\n'
        f'[[drive]]\nname = "lto0"\ndevice = "{tgtd.url(1)}"\n'
    )
    with Server(write_config(tgtd.directory / "server", login, extra=extra)) as running:
        yield running


def elements(server: Server, library: str = "mc0") -> dict[str, Any]:
    libraries: Any = server.ask("library", "show", library, statuses=(0, 1))["libraries"]  # 1: it does not tell
    (shown,) = libraries
    assert isinstance(shown, dict)
    return shown


def full(server: Server) -> dict[str, str]:
    return {each["element"]: each["barcode"] for each in elements(server)["elements"] if each["full"]}


HOME = {"slot0": "TAPE01L4", "slot1": "TAPE02L4", "slot2": "TAPE03L4"}


def test_what_is_there(server: Server) -> None:
    shown = elements(server)
    assert (shown["model"], shown["serial"], shown["error"]) == ("TESTLIB VTL", "LIB0000001", "")
    assert [each["element"] for each in shown["elements"]] == [
        "drive0", "drive1", "mail0", "slot0", "slot1", "slot2", "slot3", "slot4",
    ]  # fmt: skip
    assert [each["drive"] for each in shown["elements"][:2]] == ["lto0", ""]
    assert full(server) == HOME
    assert elements(server, "gone")["error"]
    assert elements(server, "gone")["elements"] == []


def test_cartridges_are_moved(server: Server) -> None:
    assert server.ask("library", "move", "mc0", "TAPE02L4", "drive1")["barcodes"] == ["TAPE02L4"]
    assert full(server) == {"drive1": "TAPE02L4", "slot0": "TAPE01L4", "slot2": "TAPE03L4"}
    with pytest.raises(ServerError, match="full"):
        server.ask("library", "move", "mc0", "slot0", "drive1")
    with pytest.raises(ServerError, match="there is no slot99"):
        server.ask("library", "move", "mc0", "slot0", "slot99")
    with pytest.raises(ServerError, match="empty"):
        server.ask("library", "move", "mc0", "slot3", "slot4")
    server.ask("library", "move", "mc0", "drive1", "slot1")
    assert server.ask("library", "inventory", "mc0")["barcodes"] == ["TAPE01L4", "TAPE02L4", "TAPE03L4"]
    assert full(server) == HOME


def test_a_drive_is_loaded_by_its_changer(server: Server) -> None:
    server.ask("tape", "load", "lto0", "--barcode", "TAPE03L4")
    assert full(server) == {"drive0": "TAPE03L4", "slot0": "TAPE01L4", "slot1": "TAPE02L4"}
    with pytest.raises(ServerError, match="full"):
        server.ask("tape", "load", "lto0", "--barcode", "TAPE01L4")
    with pytest.raises(ServerError, match="there is no cartridge"):
        server.ask("tape", "load", "lto0", "--barcode", "NONE")
    server.ask("tape", "unload", "lto0")
    assert full(server) == HOME
    with pytest.raises(ServerError, match="lto0 is empty"):
        server.ask("tape", "unload", "lto0")


def test_drives_say_who_they_are(server: Server) -> None:
    drives: Any = server.ask("tape", "show")["drives"]
    (drive,) = drives
    assert (drive["name"], drive["state"], drive["model"], drive["serial"], drive["hung-since"]) == (
        "lto0", "closed", "TESTDRV ULT3580-TD4", "DRV0000001", None,
    )  # fmt: skip


def test_a_session_keeps_operators_out(server: Server, login: Login) -> None:
    with NdmpClient(server.address, login=login) as client:
        open_device(client, "mc0")
        shown = elements(server)
        assert shown["error"] == f"mc0 is open in session {shown['session-id']}"
        with pytest.raises(ServerError, match="is open in session"):
            server.ask("library", "move", "mc0", "slot0", "drive0")
        close_device(client)
        client.hang_up()
    assert full(server) == HOME


def test_a_changer_that_hangs_is_told_of(tgtd: Tgtd, server: Server) -> None:
    os.kill(tgtd.pid, signal.SIGSTOP)
    try:
        assert "mc1" in elements(server, "mc1")["error"]
    finally:
        os.kill(tgtd.pid, signal.SIGCONT)
    assert full(server) == HOME
    settle(lambda: elements(server, "mc1")["error"] == "", "it answers again", 60)


def test_a_drive_without_a_changer_is_loaded_by_itself(server: Server) -> None:
    """tgtd's drive is empty: LOAD says so, and UNLOAD does nothing."""
    with pytest.raises(ServerError, match="lto0"):
        server.ask("tape", "load", "lto0")
