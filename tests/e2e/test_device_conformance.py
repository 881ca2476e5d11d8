"""`mover conformance` with a real changer, tgtd's over iSCSI, behind our server.

ndmjob's robot is not tried here: what it asks of this changer (all types of elements at once) ends tgtd with a
segmentation fault.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.test_conformance import failed, run
from tests.support.servers import Login, Server, write_config
from tests.support.tgtd import PROGRAMS, Tgtd, running_library

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def tgtd() -> Iterator[Tgtd]:
    with running_library() as running:
        yield running


@pytest.fixture(scope="module")
def server(tgtd: Tgtd, login: Login) -> Iterator[Server]:
    extra = f'[[changer]]\nname = "mc0"\ndevice = "{tgtd.changer_url}"\n'
    with Server(write_config(tgtd.directory / "server", login, drives=1, extra=extra)) as running:
        running.ask("tape", "load", "vtl0/drive0")
        yield running


def test_the_scsi_interface(server: Server, login: Login, tgtd: Tgtd) -> None:
    status, document = run(server, login, tgtd.directory, "--groups", "scsi", "--changer", "mc0")
    assert failed(document) == []
    assert status == 0
    assert "needs --changer" not in {row["detail"] for row in document["rows"]}
