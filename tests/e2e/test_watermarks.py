"""Jobs on a drive with watermarks: whatever its ring waits for, all comes through, both ways and over TCP."""

from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, MoverHaltReason
from mover.ndmp.messages import (
    DataStopRequest,
    MoverReadRequest,
    MoverStopRequest,
    NotifyDataReadPost,
    TapeCloseRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.cartridges import take
from tests.support.ndmp_client import ALL, Job
from tests.support.servers import Login
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow

DRIVE = '[[drive]]\nname = "marked"\ndevice = "virtual:{path}"\nstart_percent = 90\nstop_percent = 10\n'


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_a_tree_and_back(way: str, make_server: MakeServer, login: Login, shm: Path) -> None:
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=300, directories=5)
    make_large_file(source / "large", size=20 << 20)
    tape = make_server("tape-host", extra=DRIVE.format(path=shm / "marked.tap"))
    data = tape if way == "local" else make_server("file-server", drives=0)
    for recovers in (False, True):
        with Job.connect(data, tape, login, drive="marked") as job:
            if recovers:
                job.start_recover(str(source), str(target))
                if way == "three-way":
                    wanted = take(job.data, NotifyDataReadPost)
                    assert (wanted.offset, wanted.length) == (0, ALL)
                    job.tape.ok(MoverReadRequest(wanted.offset, wanted.length))
            else:
                job.start_backup(str(source), HIST="n")
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL, job.data.log()
            assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
            job.data.ok(DataStopRequest())
            job.tape.ok(MoverStopRequest())
            job.tape.ok(TapeCloseRequest())
    assert compare_trees(source, target).differences == []
