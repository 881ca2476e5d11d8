"""Backups of type tar by the commands, to a drive of the same server and of another: what GNU tar makes of the tape."""

import json
import subprocess
from pathlib import Path
from typing import Any  # a JSON document

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


def backup_of_type_tar(shm: Path, login: Login, data: Server, tape: Server, *more: str) -> dict[str, Any]:
    """Backs ``tree`` up to the next tape file; what the command says of it."""
    secret = shm / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    hosts = ["--host", data.address, *([] if data is tape else ["--tape-host", tape.address])]
    said: dict[str, Any] = json.loads(
        mover(
            "backup", str(shm / "tree"), "--type", "tar", *hosts, "--user", login.user, "--password-file", str(secret),
            "--drive", "vtl0/drive0", "--catalogue", str(shm / "catalogue"), "--json", *more,
        )
    )  # fmt: skip
    return said


def extract(shm: Path, tape: Server, number: int, place: Path) -> None:
    """Lays the stream in a tape file over a directory, with GNU tar."""
    (cartridge,) = [path for path in (tape.config.parent / "tapes").glob("*.tap") if path.stat().st_size]
    stream = shm / "stream.tar"
    mover("tape", "extract", str(cartridge), "--output", str(stream), "--file", str(number))
    command = [str(peers.require("tar")), "--acls", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp", "-xpGf"]
    subprocess.run([*command, stream, "-C", place], check=True, timeout=TIME_LIMIT_S)


@pytest.mark.slow
@pytest.mark.peer("tar")
def test_a_backup_and_what_tar_makes_of_it(ends: tuple[Server, Server], login: Login, shm: Path) -> None:
    data, tape = ends
    made = make_tree(shm / "tree", wide=200, huge_sparse=False, sub_microsecond=True)
    backup = backup_of_type_tar(shm, login, data, tape)
    variables = [name for name, _ in backup["env"]]
    assert {"MOVER_DUMP_ID", "PATHNAME_SEPARATOR"} <= set(variables)
    job = str(backup["job"])
    listed = json.loads(mover("list", "--job", job, "--catalogue", str(shm / "catalogue"), "--json"))["entries"]
    sockets = sockets_in(shm / "tree")
    assert len(listed) == made.entries - len(sockets)
    place = shm / "restored"
    place.mkdir()
    extract(shm, tape, 0, place)
    different = compare_trees(shm / "tree", place).differences
    assert [(one.path, one.what) for one in different] == [(path, "missing") for path in sockets]


@pytest.mark.slow
@pytest.mark.peer("tar")
def test_levels_of_it_laid_over_each_other(local: Server, login: Login, shm: Path) -> None:
    tree, place = shm / "tree", shm / "restored"
    place.mkdir()
    (tree / "below/deep").mkdir(parents=True)
    for name in ("stays", "goes", "below/deep/file"):
        (tree / name).write_bytes(name.encode() * 10_000)
    first = backup_of_type_tar(shm, login, local, local)
    (tree / "goes").unlink()
    (tree / "below").rename(tree / "moved")
    (tree / "new").symlink_to("stays")
    second = backup_of_type_tar(shm, login, local, local, "--level", "1")
    assert not any("full backup" in line["text"] for line in second["log"])
    assert second["bytes-processed"] < first["bytes-processed"]
    for number in (0, 1):
        extract(shm, local, number, place)
    assert compare_trees(tree, place, time_granularity_ns=1).differences == []
    known = ["--user", login.user, "--password-file", str(shm / "password"), "--catalogue", str(shm / "catalogue")]
    for backup in (first, second):
        said = mover(
            "recover", "--host", local.address, *known, "--drive", "vtl0/drive0", "--job", str(backup["job"]),
            "--destination", str(shm / "again"), "--env", "EXTRACT=N", "--json",
        )  # fmt: skip
        assert json.loads(said)["failed"] == []
    assert compare_trees(tree, shm / "again").differences == []


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
