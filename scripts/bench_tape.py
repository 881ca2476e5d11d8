"""Limits of the tape service: finding a record among a million, and a robot with a thousand slots."""

import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench_report import Limit

from mover.ndmp.messages import ScsiCloseRequest, ScsiOpenRequest
from mover.tape.cartridge import Cartridge
from mover.tape.codes import TapeMode
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec
from tests.support.ndmp_client import NdmpClient
from tests.support.robot import DRIVE, GOOD, SLOT, inventory, move
from tests.support.servers import SLOTS as LEAST
from tests.support.servers import Login, Server, write_config

RECORDS: Final = 1_000_000
WANTED: Final = 900_000
SLOTS: Final = 1000


class Found(NamedTuple):
    """Seconds of each locate with the read behind it, and bytes of memory that the index takes for a record."""

    seconds: list[float]
    bytes_a_record: float


def locate(place: Path, rounds: int) -> Found:
    """Of a cartridge whose records differ each from the next in length, the most that an index can take."""
    path = place / "million.tap"
    two = b"".join(
        length.to_bytes(4, "little") + bytes(length) + length.to_bytes(4, "little") for length in (16, 18)
    )  # fmt: skip
    path.write_bytes(two * (RECORDS // 2))
    spec = DriveSpec("bench", str(path), 1 << 50, 0, "1")
    drive = VirtualDrive(spec, TapeMode.READ, implicit_filemark=False)  # walks it, and leaves its index
    buffer = memoryview(bytearray(64))
    seconds = []
    for _ in range(rounds):
        drive.rewind()
        began = time.perf_counter()
        drive.locate("object", WANTED)
        outcome = drive.read_record(buffer, crosses_filemark=False)
        seconds.append(time.perf_counter() - began)
        if outcome.done != 16:
            raise RuntimeError(f"record {WANTED}: {outcome}")
    drive.close(force=False)
    cartridge = Cartridge(str(path), writable=False)
    _, _, *columns = cartridge.map.last.dump()
    taken = sum(map(len, columns))
    cartridge.abandon()
    path.unlink()
    return Found(seconds, taken / RECORDS)


class Robot(NamedTuple):
    """Seconds of each command, from the request to its reply."""

    move_medium: list[float]
    read_element_status: list[float]


def robot(place: Path, rounds: int) -> Robot:
    """Of a library with a cartridge in each of a thousand slots, over NDMP."""
    login = Login("bench", "the robot's own")
    directory = place / "robot"
    tapes = directory / "tapes"
    tapes.mkdir(parents=True)
    for number in range(SLOTS):
        (tapes / f"B{number:05d}.tap").touch()
    config = write_config(directory, login, drives=1)
    config.write_text(config.read_text().replace(f"slots = {LEAST}\n", f"slots = {SLOTS}\n"))
    moves, looks = [], []
    with Server(config) as server, NdmpClient(server.address, login=login) as client:
        client.ok(ScsiOpenRequest(b"vtl0/changer"))
        for number in range(rounds):
            for source, destination in ((SLOT + number, DRIVE), (DRIVE, SLOT + number)):
                began = time.perf_counter()
                ended = move(client, source, destination)
                moves.append(time.perf_counter() - began)
                if ended != GOOD:
                    raise RuntimeError(f"MOVE MEDIUM from {source} to {destination}: {ended}")
            began = time.perf_counter()
            seen = len(inventory(client))
            looks.append(time.perf_counter() - began)
            if seen != SLOTS:
                raise RuntimeError(f"READ ELEMENT STATUS told of {seen} cartridges")
        client.ok(ScsiCloseRequest())
    return Robot(moves, looks)


def tape_limits(place: Path, rounds: int) -> list[Limit]:
    """The rows of the table; ``place`` is an empty directory on tmpfs."""
    found, library = locate(place, rounds), robot(place, rounds)
    return [
        _limit(f"locate to record {WANTED:,} of {RECORDS:,} and read it, median", 5.0, found.seconds),
        Limit(
            work="memory of its index", bar=24.0, unit="bytes a record", value=found.bytes_a_record,
            seen="no two records next to each other alike",
        ),
        _limit("MOVE MEDIUM, request to reply, median", 5.0, library.move_medium),
        _limit(f"READ ELEMENT STATUS of {SLOTS:,} slots, median", 20.0, library.read_element_status),
    ]  # fmt: skip


def _limit(work: str, bar_ms: float, seconds: list[float]) -> Limit:
    seen = f"{len(seconds)} times, {min(seconds) * 1e3:.2f} to {max(seconds) * 1e3:.2f} ms"
    return Limit(work=work, bar=bar_ms, unit="ms", value=statistics.median(seconds) * 1e3, seen=seen)
