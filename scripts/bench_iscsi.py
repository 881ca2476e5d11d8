"""Writes and reads records on a drive over iSCSI, as the tape worker does or with libiscsi alone; prints the seconds.

Started by the benchmark with WHO URL RECORD_SIZE RECORDS, where WHO is worker or bare. The drive is one of tgtd's, its
cartridge on tmpfs. The bare loop has the same commands done by the same calls of the library, and does nothing else.
"""

import ctypes
import mmap
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench_records import Desk, ask

from mover.tape import iscsi
from mover.tape.codes import TapeMode
from mover.tape.worker import TapeWorker
from mover.workers.device_messages import DeviceSpec
from mover.workers.messages import Done
from mover.workers.tape_messages import (
    CloseDrive,
    DriveOpened,
    MotionDone,
    MoveTape,
    OpenDrive,
    ReadRecord,
    RecordDone,
    WriteRecord,
)
from tests.support import peers
from tests.support.tgtd import PROGRAMS, Tgtd

if TYPE_CHECKING:
    from bench_jobs import Bench

REWIND = 4  # TAPE_MTIO's number
TIMEOUT_S = 60
ROOM_MIB = 64  # on the cartridge beside the records


def by_worker(url: str, record_size: int, records: int) -> float:
    """Seconds of the tape worker for writing all records, rewinding, and reading them."""
    descriptor = os.memfd_create("record")
    os.ftruncate(descriptor, record_size)
    ours, theirs = socket.socketpair()
    desk, worker = Desk(theirs, descriptor), TapeWorker()
    one, again = WriteRecord(record_size), ReadRecord(record_size, crosses_filemark=False)
    with ours, mmap.mmap(descriptor, record_size) as memory:
        memory[:] = os.urandom(record_size)
        ask(worker, desk, OpenDrive(DeviceSpec("bench", url), TapeMode.RDWR, implicit_filemark=False), DriveOpened)
        ask(worker, desk, MoveTape(REWIND, 1, crosses_filemark=False), MotionDone)
        began = time.monotonic()
        for message in (one, again):
            for _ in range(records):
                if ask(worker, desk, message, RecordDone).count != record_size:
                    raise RuntimeError(f"{url}: {desk.reply}")
            ask(worker, desk, MoveTape(REWIND, 1, crosses_filemark=False), MotionDone)
        seconds = time.monotonic() - began
        ask(worker, desk, CloseDrive(), Done)
    return seconds


def by_library(url: str, record_size: int, records: int) -> float:
    """Seconds of the library's own calls for the same."""
    transport = iscsi.IscsiTransport(DeviceSpec("bench", url))
    library, context, lun = transport.library, transport.context, iscsi.parse_url(url).lun
    memory = ctypes.create_string_buffer(os.urandom(record_size), record_size)
    vector = iscsi.Vector(ctypes.addressof(memory), record_size)
    rewind = bytes([1, 0, 0, 0, 0, 0])
    transport.execute(rewind, timeout_s=TIMEOUT_S)
    length = record_size.to_bytes(3)
    began = time.monotonic()
    for code, direction, attach in (
        (0x0A, iscsi.OUT, library.scsi_task_set_iov_out),
        (0x08, iscsi.IN, library.scsi_task_set_iov_in),
    ):
        cdb = bytes([code, 0, *length, 0])
        for _ in range(records):
            task = library.scsi_create_task(len(cdb), cdb, direction, record_size)
            attach(task, ctypes.byref(vector), 1)
            done = library.iscsi_scsi_command_sync(context, lun, task, None)
            if not done or done.contents.status or done.contents.residual:
                raise RuntimeError(f"{url}: operation code {code:#x} failed")
            library.scsi_free_scsi_task(task)
        transport.execute(rewind, timeout_s=TIMEOUT_S)
    seconds = time.monotonic() - began
    transport.close()
    return seconds


def missing() -> str:
    """Programs that the comparison needs and that are not here; "" = none."""
    return ", ".join(program for program in PROGRAMS if peers.find(program) is None)


def timed(bench: "Bench", who: str, record_size: int, records: int) -> float:
    """Seconds of one run, with a new tgtd and a new cartridge."""
    place = bench.new_directory("iscsi")
    try:
        with Tgtd(place, tapes=1, tape_mib=(records * record_size >> 20) + ROOM_MIB) as tgtd:
            command: list[str | Path] = [
                sys.executable, Path(__file__), who, tgtd.url(), str(record_size), str(records)
            ]  # fmt: skip
            return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    run = {"worker": by_worker, "bare": by_library}[sys.argv[1]]
    print(run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
