"""Random histories of a virtual drive; scripts/tape-histories lives through more of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mover.tape.codes import TapeMode
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec
from tests.tape import tap
from tests.tape.contract import WHOLE_BYTES, contents
from tests.tape.histories import TapeHistory

TestTapeHistory = pytest.mark.slow(TapeHistory.TestCase)
TestTapeHistory.settings = settings(
    max_examples=500,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

WRITER = """
import sys
from mover.tape.codes import TapeMode
from mover.tape.virtual import VirtualDrive
from mover.workers.tape_messages import DriveSpec

drive = VirtualDrive(DriveSpec("d", sys.argv[1], 1 << 40, 0), TapeMode.RDWR, implicit_filemark=False)
number = 0
while True:
    number += 1
    assert drive.write_records(memoryview(number.to_bytes(4, "big") * 5000), 1000).done == 20
    assert drive.write_filemarks(1).done == 1
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 7, 20])
def test_a_process_that_is_killed_has_left_all_that_it_told_of(tmp_path: Path, after: int) -> None:
    path = tmp_path / "a.tap"
    tap.create(path)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(after)]
        writer.kill()
        told += map(int, writer.stdout.read().split())
    drive = VirtualDrive(DriveSpec("d", str(path), WHOLE_BYTES, 0), TapeMode.RDWR, implicit_filemark=False)
    found = contents(drive)
    drive.close(force=False)
    expected: tap.Tape = []
    for number in range(1, told[-1] + 2):
        expected += [number.to_bytes(4, "big") * 250] * 20 + [tap.MARK]
    assert found == expected[: len(found)]
    assert len(found) >= 21 * told[-1]
    assert tap.read(path) == found
