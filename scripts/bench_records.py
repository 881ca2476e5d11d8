"""Writes a file as tape records to a virtual drive the way TAPE_WRITE does inside the tape worker; prints the seconds.

Started by the benchmark with SOURCE CARTRIDGE RECORD_SIZE. Of what control does only the copy into the record memory is
here: each record is read from the source into it.
"""

import mmap
import os
import socket
import sys
import time
from typing import TypeVar

from mover.tape.codes import TapeMode
from mover.tape.worker import TapeWorker
from mover.workers.channel import Channel
from mover.workers.messages import Done, FromWorker, ToWorker
from mover.workers.tape_messages import CloseDrive, DriveOpened, DriveSpec, OpenDrive, RecordDone, WriteRecord

CAPACITY = 1 << 50
R = TypeVar("R", bound=FromWorker)


class Desk(Channel):
    """A control socket without control: the descriptor of the record memory is here, and replies stay here."""

    def __init__(self, end: socket.socket, memory: int) -> None:
        super().__init__(end.detach())
        self._memory = memory
        self.reply: FromWorker | None = None

    def send(self, message: FromWorker) -> None:
        self.reply = message

    def take_descriptors(self, count: int) -> list[int]:
        assert count == 1, "OpenDrive brings the record memory and nothing else"
        return [os.dup(self._memory)]


def ask(worker: TapeWorker, desk: Desk, message: ToWorker, kind: type[R]) -> R:
    """The worker's reply, which must be of this kind."""
    worker.handle(desk, message)
    if not isinstance(desk.reply, kind):
        raise RuntimeError(f"{type(message).__name__}: {desk.reply}")
    return desk.reply


def write(source: str, cartridge: str, record_size: int) -> float:
    """Seconds from opening the drive to having closed it; the source is a whole number of records long."""
    with open(cartridge, "xb"):
        pass
    descriptor = os.memfd_create("record")
    os.ftruncate(descriptor, record_size)
    ours, theirs = socket.socketpair()
    desk, worker = Desk(theirs, descriptor), TapeWorker()
    drive = DriveSpec("bench", cartridge, CAPACITY, 0)
    one, length = WriteRecord(record_size), os.stat(source).st_size
    with ours, open(source, "rb", buffering=0) as file, mmap.mmap(descriptor, record_size) as memory:
        began = time.monotonic()
        ask(worker, desk, OpenDrive(drive, TapeMode.RDWR, implicit_filemark=False), DriveOpened)
        for at in range(0, length, record_size):
            if file.readinto(memory) != record_size:
                raise RuntimeError(f"{source}: no whole record at {at}")
            if ask(worker, desk, one, RecordDone).count != record_size:
                raise RuntimeError(f"{cartridge}: {desk.reply}")
        ask(worker, desk, CloseDrive(), Done)
        return time.monotonic() - began


if __name__ == "__main__":
    print(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
