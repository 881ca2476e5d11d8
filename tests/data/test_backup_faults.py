"""What goes wrong with single objects while a backup runs."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.data import report
from mover.data.backup_files import FilePhase
from mover.data.dump_format import EXTENSION_MORE_XATTR, Inode
from mover.data.dump_objects import DumpObjects
from mover.data.plan import Plan
from mover.data.scan import Scanner
from mover.data.xattr_blob import decode_private
from mover.ring import DataGauge
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader
from tests.data.backup_runner import backup_here, request
from tests.data.dump_reader import Dump, parse

WARNING, ERROR = 3, 2


def change_after_scan(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Do something to the tree when everything is numbered and no file is read yet."""
    run = FilePhase.run

    def changed(phase: FilePhase) -> None:
        change()
        run(phase)

    monkeypatch.setattr(FilePhase, "run", changed)


def refuse(monkeypatch: pytest.MonkeyPatch, function: str, name: bytes, error: int) -> None:
    """Let a function of os fail for one name."""
    original: Callable[..., object] = getattr(os, function)

    def refusing(path: object, *arguments: object, **keywords: object) -> object:
        if path in {name, os.fsdecode(name)}:
            raise OSError(error, os.strerror(error))
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(os, function, refusing)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few files; a small and a large one that tests do something to."""
    for number in range(5):
        (tmp_path / f"before-{number}").write_bytes(b"x" * 1000 * number)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "other").write_bytes(b"other")
    (tmp_path / "small").write_bytes(b"s" * 3000)
    (tmp_path / "large").write_bytes(b"l" * 3_000_000)
    return tmp_path


def content(dump: Dump, path: bytes) -> bytes | None:
    item = dump.objects.get(dump.tree()[path])
    return item.data if item is not None else None


@pytest.mark.parametrize(("name", "size", "left"), [("small", 3000, 1500), ("small", 3000, 0), ("large", 3_000_000, 1)])
def test_a_file_that_shrinks_is_filled_with_zeros(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, left: int
) -> None:
    letter = name[:1].encode()
    inode = (tree / name).stat().st_ino

    def shrinking(function: Callable[..., int]) -> Callable[..., int]:
        def read(fd: int, buffers: list[memoryview], *arguments: object) -> int:
            if os.fstat(fd).st_ino == inode:
                os.truncate(tree / name, left)
            for buffer in buffers:  # a slot of the ring holds what went through it before, of other files
                buffer[:] = b"?" * len(buffer)
            return function(fd, buffers, *arguments)

        return read

    monkeypatch.setattr(os, "readv", shrinking(os.readv))
    monkeypatch.setattr(os, "preadv", shrinking(os.preadv))
    outcome = backup_here(request(tree))
    dump = parse(outcome.stream)
    assert content(dump, name.encode()) == letter * left + bytes(size - left)
    (line,) = outcome.lines(WARNING)
    assert line == f"/export/data/{name}: shrank while it was read: its last {size - left} bytes are zeros"
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 1)
    assert len(dump.objects) == 10


@pytest.mark.parametrize(("name", "size"), [("small", 3000), ("large", 3_000_000)])
def test_a_file_that_grows_is_cut(tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    path, inode, grown = tree / name, (tree / name).stat().st_ino, False

    def growing(function: Callable[..., int]) -> Callable[..., int]:
        def read(fd: int, *arguments: object) -> int:
            nonlocal grown
            if not grown and os.fstat(fd).st_ino == inode:
                grown = True
                with path.open("ab") as file:
                    file.write(b"+" * 5000)
            return function(fd, *arguments)

        return read

    monkeypatch.setattr(os, "readv", growing(os.readv))
    monkeypatch.setattr(os, "preadv", growing(os.preadv))
    outcome = backup_here(request(tree))
    assert content(parse(outcome.stream), name.encode()) == name[:1].encode() * size
    assert outcome.lines(WARNING) == [f"/export/data/{name}: grew while it was read: cut at the size it had"]
    assert outcome.finished.errors == 0


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_opened_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    refuse(monkeypatch, "open", b"small", error)
    outcome = backup_here(request(tree, history=HistoryPlan(4, "dir")))
    dump = parse(outcome.stream)
    assert b"small" in dump.tree()
    assert content(dump, b"small") is None
    assert outcome.lines(ERROR) == [
        f"/export/data/small: left out: {os.strerror(error)} ({errno.errorcode[error]})"
    ]  # fmt: skip
    assert (outcome.finished.reason, outcome.finished.errors, outcome.finished.files) == (1, 1, 7)
    assert outcome.finished.text == "1 object left out or not whole"
    assert dump.left_out == [dump.tree()[b"small"]]
    assert outcome.gauges[DataGauge.ERRORS] == 1


def test_the_owner_s_quiet_open_is_not_a_condition(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.open

    def not_owner(path: object, flags: int, *arguments: int, **keywords: int) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return open_file(path, flags, *arguments, **keywords)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(os, "open", not_owner)
    outcome = backup_here(request(tree))
    assert outcome.finished.errors == 0
    assert content(parse(outcome.stream), b"small") == b"s" * 3000


@pytest.mark.parametrize("name", [b"small", b"large"])
def test_a_file_that_cannot_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    inode = (tree / name.decode()).stat().st_ino

    def failing(function: Callable[..., int]) -> Callable[..., int]:
        def read(fd: int, *arguments: object) -> int:
            if os.fstat(fd).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return function(fd, *arguments)

        return read

    monkeypatch.setattr(os, "readv", failing(os.readv))
    monkeypatch.setattr(os, "preadv", failing(os.preadv))
    outcome = backup_here(request(tree))
    # A large one has its header out before the first read: its place is filled.
    assert content(parse(outcome.stream), name) == (None if name == b"small" else bytes(3_000_000))
    (line,) = outcome.lines(ERROR)
    assert "EIO" in line
    assert outcome.finished.errors == 1


def test_a_file_that_vanishes_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_after_scan(monkeypatch, (tree / "small").unlink)
    outcome = backup_here(request(tree))
    assert content(parse(outcome.stream), b"small") is None
    assert outcome.lines(ERROR) == ["/export/data/small: left out: No such file or directory (ENOENT)"]


def test_an_inode_whose_first_name_vanishes_is_read_by_another(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(tree / "small", tree / "below" / "again")
    names = {tree / "small": b"small", tree / "below" / "again": b"below/again"}

    # The root's entries have the lower numbers, so this is the name it would be read by.
    change_after_scan(monkeypatch, (tree / "small").unlink)
    outcome = backup_here(request(tree, history=HistoryPlan(4, "file")))
    dump = parse(outcome.stream)
    for name in names.values():
        assert content(dump, name) == b"s" * 3000
    assert outcome.lines(WARNING) == [
        "/export/data/small: read by another of its names: No such file or directory (ENOENT)"
    ]
    assert outcome.finished.errors == 0


def test_so_is_one_that_is_no_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("nowhere", tree / "zlink")
    os.mkfifo(tree / "zfifo", 0o600)
    os.link(tree / "zlink", tree / "below" / "zlink", follow_symlinks=False)
    os.link(tree / "zfifo", tree / "below" / "zfifo")

    def vanish() -> None:
        (tree / "zlink").unlink()
        (tree / "zfifo").unlink()

    change_after_scan(monkeypatch, vanish)
    for name in (b"zlink", b"zfifo"):
        refuse(monkeypatch, "open", name, errno.EIO)  # which would act on a device
    outcome = backup_here(request(tree))
    dump = parse(outcome.stream)
    found = dump.tree()
    for name, mode in ((b"zlink", 0o120777), (b"zfifo", 0o10600)):
        assert found[name] == found[b"below/" + name]
        assert dump.objects[found[name]].mode == mode
    assert outcome.finished.errors == 0
    assert [line.partition(": ")[2] for line in outcome.lines(WARNING)] == [
        "read by another of its names: No such file or directory (ENOENT)"
    ] * 2


LEASE_HOLDER = """
import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDWR)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print(flush=True)
signal.sigwait([signal.SIGIO])
os.write(fd, b"given back")
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
"""


def test_a_lease_of_a_file_server_s_client_is_waited_for(tree: Path) -> None:
    command = [sys.executable, "-I", "-c", LEASE_HOLDER, str(tree / "small")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
            outcome = backup_here(request(tree))
            assert holder.wait(30) == 0
        finally:
            holder.kill()
    assert content(parse(outcome.stream), b"small") == b"given back" + b"s" * 2990
    assert (outcome.finished.errors, outcome.lines(ERROR)) == (0, [])


def test_the_names_of_an_unreadable_inode_are_looked_up_together(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = 100
    for number in range(links):
        os.link(tree / "small", tree / f"z-{number}")
    for other in ["small", *(f"z-{number}" for number in range(links))]:
        refuse(monkeypatch, "open", other.encode(), errno.EACCES)
    entry_names, listed = Plan.entry_names, []

    def counting(plan: Plan, ordinal: int) -> list[bytes]:
        listed.append(ordinal)
        return entry_names(plan, ordinal)

    monkeypatch.setattr(Plan, "entry_names", counting)
    outcome = backup_here(request(tree))
    (line,) = outcome.lines(ERROR)
    assert line.endswith(": left out: Permission denied (EACCES)")
    assert len(listed) < 10


def test_history_by_path_names_an_inode_that_is_read_by_another_name_once_each(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(tree / "small", tree / "below" / "again")
    refuse(monkeypatch, "open", b"small", errno.EACCES)
    outcome = backup_here(request(tree, history=HistoryPlan(4, "file")))
    told = [
        element.path
        for kind, body in outcome.posts
        for element in fh_reader.elements(kind, body)
        if isinstance(element, fh_reader.Attributes)
    ]
    assert sorted(told) == sorted(b"/" + path for path in parse(outcome.stream).tree())


def test_names_of_an_inode_that_cannot_be_asked_are_left_out_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(tree / "small", tree / "below" / "again")
    inode, fstat = (tree / "small").stat().st_ino, os.fstat

    def stale(fd: int) -> os.stat_result:
        if (status := fstat(fd)).st_ino == inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return status

    change_after_scan(monkeypatch, lambda: monkeypatch.setattr(os, "fstat", stale))
    outcome = backup_here(request(tree))
    assert outcome.lines(ERROR) == ["/export/data/small: left out: Stale file handle (ESTALE)"]
    assert outcome.finished.errors == 1


def test_a_small_file_with_terabytes_reserved(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 2 TiB allocated, as by fallocate, is more blocks than the header's informative word holds."""
    inode, fstat = (tree / "small").stat().st_ino, os.fstat

    def reserved(fd: int) -> os.stat_result:
        status = fstat(fd)
        if status.st_ino != inode:
            return status
        names = [name for name in dir(status) if name.startswith("st_")]
        return os.stat_result(status, {name: getattr(status, name) for name in names} | {"st_blocks": 2**33 + 8})

    change_after_scan(monkeypatch, lambda: monkeypatch.setattr(os, "fstat", reserved))
    outcome = backup_here(request(tree))
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    assert content(parse(outcome.stream), b"small") == b"s" * 3000


def test_a_sparse_file_that_shrinks_is_told_of(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its end was there is a hole to read, and no byte is missed."""
    with (tree / "sparse").open("wb") as file:
        file.write(b"x" * 8192)
        file.truncate(5_000_000)
        file.seek(4_900_000)
        file.write(b"y" * 8192)
        file.truncate(5_000_000)
    regular = DumpObjects._content

    def shrinking(writer: DumpObjects, fd: int, inumber: int, inode: Inode, *, sparse: bool) -> None:
        if inode.size == 5_000_000:
            os.truncate(tree / "sparse", 8192)
        regular(writer, fd, inumber, inode, sparse=sparse)

    monkeypatch.setattr(DumpObjects, "_content", shrinking)
    outcome = backup_here(request(tree))
    assert content(parse(outcome.stream), b"sparse") == b"x" * 8192 + bytes(5_000_000 - 8192)
    (line,) = outcome.lines(WARNING)
    assert line == "/export/data/sparse: shrank while it was read: its last 4991808 bytes are zeros"
    assert outcome.finished.errors == 1


def test_a_directory_that_vanishes_after_the_scan_loses_its_entries(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_after_scan(monkeypatch, lambda: subprocess.run(["rm", "-r", tree / "below"], check=True))
    outcome = backup_here(request(tree))
    assert outcome.lines(ERROR) == ["/export/data/below/other: left out: No such file or directory (ENOENT)"]
    assert b"below/other" in parse(outcome.stream).tree()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE])
def test_a_directory_that_cannot_be_opened_is_empty(tree: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    refuse(monkeypatch, "open", b"below", error)
    outcome = backup_here(request(tree, history=HistoryPlan(4, "dir")))
    dump = parse(outcome.stream)
    assert dump.tree().keys() >= {b"below", b"small"}
    assert b"below/other" not in dump.tree()
    (line,) = outcome.lines(ERROR)
    assert line.startswith("/export/data/below: backed up as an empty directory: ")


def test_a_directory_that_vanishes_during_the_scan_is_not_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Scanner._list

    def vanishing(scanner: Scanner, ordinal: int, fd: int) -> list[tuple[int, str, int, int]]:
        children = listing(scanner, ordinal, fd)
        if ordinal == 0:
            subprocess.run(["rm", "-r", tree / "below"], check=True)
        return children

    monkeypatch.setattr(Scanner, "_list", vanishing)
    outcome = backup_here(request(tree, history=HistoryPlan(4, "dir")))
    dump = parse(outcome.stream)
    assert {b"small", b"large"} < dump.tree().keys()
    assert b"below" not in dump.tree()
    assert dump.used == dump.dumped == {*dump.objects}
    assert outcome.lines(ERROR) == ["/export/data/below: left out: No such file or directory (ENOENT)"]
    assert (outcome.finished.errors, outcome.finished.directories) == (1, 1)


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink"])
def test_a_file_that_becomes_something_else_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def change() -> None:
        (tree / "small").unlink()
        if kind == "fifo":
            os.mkfifo(tree / "small")
        elif kind == "directory":
            (tree / "small").mkdir()
        else:
            (tree / "small").symlink_to("large")

    change_after_scan(monkeypatch, change)
    outcome = backup_here(request(tree))
    assert content(parse(outcome.stream), b"small") is None
    (line,) = outcome.lines(ERROR)
    assert line.startswith("/export/data/small: left out: ")


def test_a_symlink_that_becomes_a_file_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "link").symlink_to("small")

    def change() -> None:
        (tree / "link").unlink()
        (tree / "link").touch()

    change_after_scan(monkeypatch, change)
    outcome = backup_here(request(tree))
    assert content(parse(outcome.stream), b"link") is None
    assert outcome.finished.errors == 1


def test_attributes_of_any_size_are_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = {f"user.big{number}": bytes([number]) * 65_000 for number in range(20)}
    inode = (tree / "small").stat().st_ino

    def names(target: object, **_: bool) -> list[str]:
        return list(big) if isinstance(target, int) and os.fstat(target).st_ino == inode else []

    monkeypatch.setattr(os, "listxattr", names)
    monkeypatch.setattr(os, "getxattr", lambda _, name, **__: big[name])
    dump = parse(backup_here(request(tree)).stream)
    item = dump.objects[dump.tree()[b"small"]]
    assert {kind for kind, _ in item.blobs} == {EXTENSION_MORE_XATTR}
    found = dict(pair for _, blob in item.blobs for pair in decode_private(blob).attributes)
    assert found == {name.encode(): value for name, value in big.items()}


def test_attributes_that_cannot_be_read_are_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inode = (tree / "small").stat().st_ino

    def names(target: object, **_: bool) -> list[str]:
        return ["user.a", "user.gone"] if isinstance(target, int) and os.fstat(target).st_ino == inode else []

    def value(_: object, name: str, **__: bool) -> bytes:
        code = errno.ENODATA if name == "user.gone" else errno.EACCES
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "listxattr", names)
    monkeypatch.setattr(os, "getxattr", value)
    outcome = backup_here(request(tree))
    assert outcome.lines(ERROR) == [
        "/export/data/small: attribute 'user.a' left out: Permission denied (EACCES)"
    ]  # fmt: skip
    assert content(parse(outcome.stream), b"small") == b"s" * 3000


def test_a_file_system_without_attributes_is_no_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: bool) -> list[str]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "listxattr", none)
    outcome = backup_here(request(tree))
    assert outcome.finished.errors == 0
    assert content(parse(outcome.stream), b"small") == b"s" * 3000


def test_lines_about_single_objects_are_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LOG_LINES_MAX", 2)
    for number in range(5):
        refuse(monkeypatch, "open", b"before-%d" % number, errno.EACCES)
    outcome = backup_here(request(tree))
    assert outcome.finished.errors == 5
    assert len(outcome.lines(ERROR)) == 2
    assert outcome.lines(WARNING) == ["3 further lines about single objects not sent"]
