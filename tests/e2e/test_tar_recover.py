"""Recovers of type tar by the commands: everything, single names and the list of a tape, local and three-way."""

import json
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.data.test_tar_backup import sockets_in
from tests.e2e.test_tar import backup_of_type_tar, mover
from tests.support.servers import Login, Server
from tests.support.trees import make_tree


@pytest.mark.slow
def test_what_a_backup_of_type_tar_brings_back(ends: tuple[Server, Server], login: Login, shm: Path) -> None:
    data, tape = ends
    make_tree(shm / "tree", wide=200, huge_sparse=False, sub_microsecond=True)
    job = str(backup_of_type_tar(shm, login, data, tape, "--history", "f")["job"])
    hosts = ["--host", data.address, *([] if data is tape else ["--tape-host", tape.address])]
    known = ["--user", login.user, "--password-file", str(shm / "password"), "--catalogue", str(shm / "catalogue")]
    common = [*hosts, *known, "--drive", "vtl0/drive0", "--json"]
    said = json.loads(mover("recover", *common, "--job", job, "--destination", str(shm / "again")))
    assert said["failed"] == []
    different = compare_trees(shm / "tree", shm / "again").differences
    assert [(one.path, one.what) for one in different] == [(path, "missing") for path in sockets_in(shm / "tree")]

    names = ["sizes/large", "zz-hard-4", "links"]
    said = json.loads(mover("recover", *common, "--job", job, "--destination", str(shm / "parts"), *names))
    assert said["failed"] == []
    assert (shm / "parts/sizes/large").read_bytes() == (shm / "tree/sizes/large").read_bytes()
    assert (shm / "parts/zz-hard-4").read_bytes() == (shm / "tree/zz-hard-4").read_bytes()
    assert compare_trees(shm / "tree/links", shm / "parts/links").differences == []

    by_job = json.loads(mover("list", "--job", job, "--catalogue", str(shm / "catalogue"), "--json"))["entries"]
    by_tape = json.loads(mover("list", *common, "--type", "tar", "--tape-file", "0"))["entries"]
    assert sorted(entry["path"] for entry in by_tape) == sorted(entry["path"] for entry in by_job)
