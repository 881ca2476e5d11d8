"""Many small files of several owners, made by the loops for small files of both formats and their second writer."""

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from mover.data.codes import LogType
from tests.data.backup_runner import backup_here, request
from tests.data.recover_runner import name, recover
from tests.support.passage import let_others_pass

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
_FILES: Final = 2_600  # enough for a second writer
_OWNERS: Final = ((0, 0), (1000, 100), (1001, 0), (0, 1000))
_MODES: Final = (0o644, 0o640, 0o600, 0o4755, 0o2710, 0o444)
_USER: Final = 65534


@pytest.fixture(scope="module", params=["dump", "tar"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, bytes]:
    tree = tmp_path_factory.mktemp("tree")
    for number in range(_FILES):
        path = tree / f"{number // 500}" / f"file-{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d " % number * (number % 700))
        uid, gid = _OWNERS[number // 50 % len(_OWNERS)] if number % 3 else _OWNERS[number % len(_OWNERS)]
        os.chown(path, uid, gid)
        path.chmod(_MODES[number % len(_MODES)])
        os.utime(path, ns=(1_500_000_000_000_000_001 + number, 1_600_000_000_123_456_789 + number))
    return request.param, tree, _backup(tree, request.param)


def _backup(tree: Path, butype: str) -> bytes:
    return backup_here(request(tree, butype=butype)).stream


def _told(tree: Path) -> dict[str, tuple[int, int, int, int, int, bytes]]:
    found = {}
    for path in sorted(tree.rglob("file-*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        found[path.name] = (
            status.st_uid,
            status.st_gid,
            mode,
            status.st_atime_ns,
            status.st_mtime_ns,
            path.read_bytes(),
        )
    return found


@pytest.mark.slow
def test_each_has_its_owner_mode_and_times(stream: tuple[str, Path, bytes], tmp_path: Path) -> None:
    butype, tree, data = stream
    times = {path: path.lstat() for path in tree.rglob("file-*")}
    expected = _told(tree)
    for path, status in times.items():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # it was read
    outcome = recover(data, [name(tmp_path)], butype=butype)
    assert outcome.finished.errors == 0, outcome.text()
    found = _told(tmp_path)
    assert found.keys() == expected.keys()
    assert {key: value for key, value in found.items() if value != expected[key]} == {}


def test_a_user_without_privileges_gets_them_as_his_own(
    stream: tuple[str, Path, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    butype, _, data = stream
    out = tmp_path_factory.mktemp("out")
    let_others_pass(out)
    os.chown(out, _USER, _USER)
    outcome = recover(data, [name(out)], butype=butype, user=_USER)
    assert outcome.finished.errors == 0, outcome.text()
    owners = Counter((path.lstat().st_uid, path.lstat().st_gid) for path in out.rglob("file-*"))
    assert owners == {(_USER, _USER): _FILES}
    assert b"owner left out %d times" % (_FILES + len(list(out.iterdir())) + 1) in b"\n".join(
        line for kind, line in outcome.lines if kind == LogType.WARNING
    )
