"""Jobs of version 1 as its draft describes them: open, record size, START, pauses, STOP, filemark, close."""

from pathlib import Path

from tests.support import v1_client as v1
from tests.support.servers import Login, Server
from tests.support.v1_client import V1Client

RECORD = 20_480
DRIVE, OTHER_DRIVE = "vtl0/drive0", "vtl0/drive1"
FH_UNKNOWN = 2**64 - 1


def connect(server: Server, login: Login, *, fragments: int = 1) -> V1Client:
    """A connection, logged in."""
    return V1Client(server.address, login.user, login.password, fragments=fragments)


def open_drive(client: V1Client, mode: int, *, drive: str = DRIVE, record: int = RECORD) -> None:
    """At the beginning of the tape."""
    client.tape_open(drive, mode)
    client.mtio(v1.REW)
    client.set_record_size(record)


def env_of(source: Path, **more: str) -> v1.Pairs:
    """The environment of a backup, with the names of the draft."""
    return [(b"filesystem", bytes(source)), *((name.encode(), value.encode()) for name, value in more.items())]


def halted(client: V1Client) -> int:
    """The reason of NOTIFY_HALTED, which comes with the state already changed."""
    _, (reason, text) = client.wait_for(v1.NOTIFY_HALTED)
    state = client.data_state()
    assert (state.state, state.halt_reason, state.pause_reason) == (v1.HALTED, reason, 0), text
    return int(reason)


def back_up(client: V1Client, env: v1.Pairs, *, drive: str = DRIVE) -> v1.Pairs:
    """A whole backup on one tape; returns the environment to recover with."""
    open_drive(client, v1.WRITE_MODE, drive=drive)
    client.start_backup(env)
    return end_backup(client)


def end_backup(client: V1Client) -> v1.Pairs:
    """From NOTIFY_HALTED(SUCCESSFUL) to TAPE_CLOSE."""
    assert halted(client) == v1.SUCCESSFUL, client.logged()
    saved = client.env()
    client.stop()
    client.mtio(v1.EOF)
    client.tape_close()
    return saved


def recover(client: V1Client, env: v1.Pairs, target: Path, *, drive: str = DRIVE, record: int = RECORD) -> None:
    """A whole recover from one tape."""
    open_drive(client, v1.READ_MODE, drive=drive, record=record)
    client.start_recover(env, [(b"/", bytes(target), FH_UNKNOWN)])
    assert halted(client) == v1.SUCCESSFUL, client.logged()
    client.stop()
    client.tape_close()


class Operator:
    """Changes the cartridge of a drive by `mover tape`, as a person beside the library would."""

    def __init__(self, server: Server, count: int, drive: str = DRIVE) -> None:
        made = server.ask("tape", "create", "vtl0", "--count", str(count))
        barcodes = made["barcodes"]
        assert isinstance(barcodes, list)
        self.barcodes: list[str] = barcodes
        self._server = server
        self._drive = drive
        self.loaded = ""

    def change(self, number: int) -> None:
        """Put the cartridge of this number into the drive, which nobody has open."""
        if self.loaded:
            self._server.ask("tape", "unload", self._drive)
        self.loaded = self.barcodes[number]
        self._server.ask("tape", "load", self._drive, "--barcode", self.loaded)
