"""Backups of type tar by the commands, to a drive of the same server and of another: what GNU tar makes of the tape."""

import json
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import ButypeAttribute, ErrorCode
from mover.ndmp.messages import (
    ConfigGetButypeAttrReply,
    ConfigGetButypeAttrRequest,
    ConfigGetButypeInfoReply,
    ConfigGetButypeInfoRequest,
)
from tests.data.test_tar_backup import sockets_in
from tests.support import peers
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_tree

TIME_LIMIT_S = 120


def mover(*arguments: str) -> str:
    done = subprocess.run(
        [*mover_command(), *arguments], capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.peer("tar")
def test_a_backup_and_what_tar_makes_of_it(ends: tuple[Server, Server], login: Login, shm: Path) -> None:
    data, tape = ends
    made = make_tree(shm / "tree", wide=200, huge_sparse=False, sub_microsecond=True)
    secret, catalogue = shm / "password", shm / "catalogue"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    hosts = ["--host", data.address, *([] if data is tape else ["--tape-host", tape.address])]
    backup = json.loads(
        mover(
            "backup", str(shm / "tree"), "--type", "tar", *hosts, "--user", login.user, "--password-file", str(secret),
            "--drive", "vtl0/drive0", "--catalogue", str(catalogue), "--json",
        )
    )  # fmt: skip
    variables = [name for name, _ in backup["env"]]
    assert {"MOVER_DUMP_ID", "PATHNAME_SEPARATOR"} <= set(variables)
    job = str(backup["job"])
    listed = json.loads(mover("list", "--job", job, "--catalogue", str(catalogue), "--json"))["entries"]
    sockets = sockets_in(shm / "tree")
    assert len(listed) == made.entries - len(sockets)
    (cartridge,) = [path for path in (tape.config.parent / "tapes").glob("*.tap") if path.stat().st_size > 100_000]
    mover("tape", "extract", str(cartridge), "--output", str(shm / "stream.tar"))
    place = shm / "restored"
    place.mkdir()
    subprocess.run(
        [
            peers.require("tar"), "--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp",
            "-xpf", shm / "stream.tar", "-C", place,
        ],
        check=True, timeout=TIME_LIMIT_S,
    )  # fmt: skip
    different = compare_trees(shm / "tree", place).differences
    assert [(one.path, one.what) for one in different] == [(path, "missing") for path in sockets]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_is_told_of_the_type(shared: Server, login: Login, version: int) -> None:
    """3.2: attributes and default environment, in the words of each version."""
    with NdmpClient(shared.address, login=login, version=version) as client:
        if version == 2:
            told = client.ok(ConfigGetButypeAttrRequest(b"tar"))
            assert isinstance(told, ConfigGetButypeAttrReply)
            attributes = told.attrs
            assert client.error(ConfigGetButypeAttrRequest(b"TAR")) == ErrorCode.ILLEGAL_ARGS_ERR
        else:
            infos = client.ok(ConfigGetButypeInfoRequest())
            assert isinstance(infos, ConfigGetButypeInfoReply)
            by_name = {info.butype_name: info for info in infos.butype_info}
            assert list(by_name) == [b"dump", b"tar"]
            attributes = by_name[b"tar"].attrs
            assert {pair.name for pair in by_name[b"tar"].default_env} >= {b"HIST", b"DIRECT", b"RECURSIVE", b"LEVEL"}
        wanted = ButypeAttribute.BACKUP_FH_FILE | ButypeAttribute.BACKUP_FH_DIR
        assert attributes & wanted
        client.hang_up()
