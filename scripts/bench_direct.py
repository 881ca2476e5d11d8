"""Direct access: one small file out of a stream of 10 GiB, its time and what is read from the cartridge for it.

The stream lies on a cartridge made with holes (tests/support/sparse_dump.py), because most of it is never looked at.
What is read is the kernel's count for the tape worker, a little more than what came from the cartridge.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Final

import psutil
from bench_jobs import DEADLINE_S, Bench, settle
from bench_report import Limit

from mover.ndmp.enums import DataHaltReason, MoverMode, TapeMode
from mover.ndmp.messages import (
    DataStartRecoverRequest,
    NotifyDataHaltedPost,
    RecoverName,
    TapeCloseRequest,
    TapeOpenRequest,
)
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.processes import workers
from tests.support.servers import Server, write_config
from tests.support.sparse_dump import SMALL_BYTES, Place, SparseDump, make_sparse_dump

DRIVE: Final = b"vtl0/drive0"
DIRECTORIES: Final = 100
MIB: Final = 1 << 20


def direct_access(bench: Bench, *, stream_bytes: int, files: int, rounds: int) -> list[Limit]:
    """The rows.

    Args:
        stream_bytes: how long the stream is, about; the small files take some 5 KiB each of it.
        files: small ones.
        rounds: files that are recovered, one at a time, from all over the stream.
    """
    place = bench.new_directory("direct")
    target = place / "target"
    target.mkdir()
    (place / "server" / "tapes").mkdir(parents=True)
    dump = make_sparse_dump(
        place / "server" / "tapes" / "SPARSE.tap",
        files=files,
        directories=DIRECTORIES,
        large_bytes=stream_bytes - files * (SMALL_BYTES + 1024),
        record_size=bench.record_size,
    )
    times: list[float] = []
    counts: list[int] = []
    with Server(write_config(place / "server", bench.login, volumes={"target": target}, drives=1)) as server:
        server.ask("tape", "load", DRIVE.decode(), "--barcode", "SPARSE")
        with NdmpClient(server.address, login=bench.login) as client:  # makes the index
            client.ok(TapeOpenRequest(DRIVE, TapeMode.READ))
            client.ok(TapeCloseRequest())
        for number in range(rounds):
            settle([server])
            seconds, count = _recover(bench, server, dump, dump.places[number * files // rounds], target)
            times.append(seconds)
            counts.append(count)
    size = f"{dump.stream_bytes / (1 << 30):.3g} GiB"
    work = f"one file of 4 KiB out of a stream of {size} and {files:,} files, by direct access"
    return [
        Limit(
            work=f"{work}, START_RECOVER to HALTED, median", bar=50.0, unit="ms",
            value=statistics.median(times) * 1e3,
            seen=f"{rounds} files, {min(times) * 1e3:.1f} to {max(times) * 1e3:.1f} ms",
        ),
        Limit(
            work="read by the tape worker for it, at the most", bar=2.0, unit="MiB",
            value=max(counts) / MIB, seen=f"{min(counts) / MIB:.2f} to {max(counts) / MIB:.2f} MiB",
        ),
    ]  # fmt: skip


def _recover(bench: Bench, server: Server, dump: SparseDump, place: Place, target: Path) -> tuple[float, int]:
    """Seconds of one recover, and bytes read for it."""
    name = RecoverName(place.path, os.fsencode(target) + place.path, node=place.node, fh_info=place.fh_info)
    with Job.connect(server, server, bench.login) as job:
        job.connect_data(MoverMode.WRITE, record_size=bench.record_size)
        before = _read_by_tape_workers(server)
        began = time.monotonic()
        job.data.ok(DataStartRecoverRequest(pairs(**dump.env, DIRECT="y"), (name,), b"dump"))
        halted = job.data.wait_until(
            lambda seen: isinstance(seen.body, NotifyDataHaltedPost), "DATA_HALTED", DEADLINE_S
        )
        read = _read_by_tape_workers(server) - before
    assert isinstance(halted.body, NotifyDataHaltedPost)
    if halted.body.reason != DataHaltReason.SUCCESSFUL:
        raise RuntimeError(f"the recover halted with reason {halted.body.reason}: {job.data.log()}")
    if (target / os.fsdecode(place.path[1:])).read_bytes() != place.content:
        raise RuntimeError(f"{os.fsdecode(place.path)} did not come back as it was")
    return halted.at - began, read


def _read_by_tape_workers(server: Server) -> int:
    """All that the server's tape workers have read so far, in bytes."""
    return sum(psutil.Process(pid).io_counters().read_chars for pid in workers(server, "tape"))
