"""Attacks by paths: nothing outside a volume is read or written, and every path gets a clear answer."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, ErrorCode, MoverMode
from mover.ndmp.messages import DataStartBackupRequest, DataStartRecoverRequest, Pval, RecoverName
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, pairs
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file, make_small_files

MIB = 1 << 20


@pytest.fixture(scope="module")
def room(shared_shm: Path) -> Iterator[Path]:
    """``volume`` with ways out of it, beside ``outside``, which nobody may read or write."""
    volume, outside = shared_shm / "volume", shared_shm / "outside"
    (volume / "tree" / "sub").mkdir(parents=True)
    (volume / "tree" / "file").write_text("content")
    (volume / "tree" / "sub" / "deeper").write_bytes(bytes(5000))
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (volume / "escape").symlink_to(outside)
    (volume / "tree" / "escape").symlink_to(outside)
    (volume / "alias").symlink_to("tree")
    yield shared_shm
    assert os.listdir(outside) == ["secret"]
    subprocess.run(["rm", "-rf", volume], check=True)  # deeper than Python's recursion goes


@pytest.fixture(scope="module")
def server(room: Path, login: Login) -> Iterator[Server]:
    """One server for the module, with a backup of ``tree`` on its cartridge."""
    config = write_config(room / "server", login, volumes={"v": room / "volume"}, drives=1)
    with Server(config) as running:
        running.ask("tape", "load", "vtl0/drive0")
        with Job.connect(running, running, login) as job:
            job.start_backup(str(room / "volume" / "tree"))
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
            job.tape.mover_halted()
            job.tape.hang_up()
        yield running


def closing_words(job: Job) -> str:
    """What the server has logged to us until it closed."""
    job.data.error(DataStartBackupRequest(b"dump", ()))  # the lines before its reply are here with it
    return "\n".join(job.data.log())


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (b"%s/tree/..", "climb"),
        (b"%s/../outside", "climb"),
        (b"%s/escape", "escape cannot be backed up"),
        (b"%s/escape/", "escape/ cannot be backed up"),
        (b"%s/alias", "alias cannot be backed up"),
        (b"%s/alias/sub", "alias/sub cannot be backed up"),
        (b"%s/tree/escape/.", "cannot be backed up"),
        (b"%s/tree\0/x", "NUL"),
        (b"%s/tree\n", "No such file"),
        (b"%s/\xff\xfe", "\\xff\\xfe cannot be backed up"),
        (b"%s" + b"/x" * 5000, "No such file"),
        (b"%s/" + b"x" * 300, "cannot be backed up"),
        (b"%sx", "outside every volume"),
        (b"/proc/self/root%s", "outside every volume"),
        (b"tree", "not an absolute path"),
    ],
)
def test_a_backup_of_what_is_no_directory_of_a_volume_is_refused(
    path: bytes, named: str, server: Server, login: Login, room: Path
) -> None:
    path = path.replace(b"%s", os.fsencode(room / "volume"))
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.READ)
        request = DataStartBackupRequest(b"dump", (Pval(b"FILESYSTEM", path),))
        assert job.data.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
        words = closing_words(job)
        assert len(words) < 20_000
        if len(path) < 4096:
            assert named in words
        job.data.hang_up()


REFUSED = [
    (b"%s/../outside/x", b""),
    (b"%o/x", b""),
    (b"../../outside", b""),
    (b"/", b""),
    (b"%s/t\0x", b""),
    (b"%s/" + b"x" * 300, b""),
    (b"%s/t", b"../../outside"),
    (b"%s/t", b"sub/../../x"),
    (b"%s/t", b"sub\0"),
]
TAKEN = [
    (b"%s/escape/x", b""),
    (b"%s/escape", b""),
    (b"%s/alias/x", b""),
    (b"%s/tree/file/x", b""),
    (b"%s/t", b"escape/secret"),
    (b"%s/new\nline", b""),
    (b"%s/\xff\xfe", b""),
    (b"%s" + b"/deep" * 5000, b""),
]


@pytest.mark.parametrize(("destination", "original"), [*REFUSED, *TAKEN])
def test_a_recover_never_leaves_its_volume(
    destination: bytes, original: bytes, server: Server, login: Login, room: Path
) -> None:
    volume = room / "volume"
    target = destination.replace(b"%s", os.fsencode(volume)).replace(b"%o", os.fsencode(room / "outside"))
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.WRITE)
        names = (RecoverName(original, target),)
        error = job.data.error(DataStartRecoverRequest(pairs(FILESYSTEM=str(volume / "tree")), names, b"dump"))
        if (destination, original) in REFUSED:
            assert error == ErrorCode.ILLEGAL_ARGS_ERR
        else:
            assert error == ErrorCode.NO_ERR
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    assert os.listdir(room / "outside") == ["secret"]
    assert sorted(os.listdir(volume / "tree")) == ["escape", "file", "sub"]


@pytest.mark.parametrize("history", ["y", "f"])
def test_a_path_longer_than_a_history_post_does_not_end_the_backup(
    history: str, server: Server, login: Login, room: Path
) -> None:
    """Any user of a volume can make such directories."""
    top = room / "volume" / f"deep-{history}"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(600):
        os.mkdir(b"d" * 250, dir_fd=at)
        below = os.open(b"d" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    config_tapes = server.ask("tape", "unload", "vtl0/drive0")["barcodes"]
    assert isinstance(config_tapes, list)
    server.ask("tape", "load", "vtl0/drive0")
    try:
        with Job.connect(server, server, login) as job:
            job.start_backup(str(top), HIST=history)
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
            assert any("too long for file history" in line for line in job.data.log()) == (history == "f")
            job.data.hang_up()
    finally:
        server.ask("tape", "unload", "vtl0/drive0")
        server.ask("tape", "load", "vtl0/drive0", "--barcode", str(config_tapes[0]))


@pytest.mark.slow
def test_a_symbolic_link_swapped_in_during_a_recover_leads_nowhere(local: Server, login: Login, shm: Path) -> None:
    source, target, outside = shm / "source", shm / "target", shm / "outside"
    make_small_files(source, files=6000, directories=60)
    outside.mkdir()
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.tape.mover_halted()
        job.data.hang_up()
    stop = threading.Event()

    def swap() -> None:
        """Directories of the target are moved away and links to the outside stand in their place, and back."""
        while not stop.is_set():
            for directory in list(target.iterdir()) if target.is_dir() else []:
                aside = directory.with_name(f"aside-{directory.name}")
                try:
                    if directory.is_symlink() or directory.name.startswith("aside-"):
                        continue
                    directory.rename(aside)
                    directory.symlink_to(outside)
                    directory.unlink()
                    aside.rename(directory)
                except OSError:
                    continue  # the recover was quicker

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(3):
            with Job.connect(local, local, login) as job:
                job.start_recover(str(source), str(target))
                assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
                job.data.hang_up()
            assert list(outside.iterdir()) == []
    finally:
        stop.set()
        thread.join(20)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_a_volume_that_disappears_ends_its_job_and_not_the_server(
    operation: str, make_server: MakeServer, login: Login, shm: Path
) -> None:
    volume = shm / "volume"
    volume.mkdir()
    config = write_config(shm / "server", login, volumes={"v": volume}, drives=1)
    (volume / "tree").mkdir()
    make_large_file(volume / "tree" / "large", size=128 * MIB)
    make_small_files(volume / "tree" / "zz", files=500, directories=5)
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        if operation == "recover":
            with Job.connect(server, server, login) as job:
                job.start_backup(str(volume / "tree"))
                assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
                job.tape.mover_halted()
                job.data.hang_up()
        with Job.connect(server, server, login) as job:
            if operation == "backup":
                job.start_backup(str(volume / "tree"))
            else:
                job.start_recover(str(volume / "tree"), str(volume / "target"))
            shutil.rmtree(volume, ignore_errors=True)
            assert job.data.data_halted() in {DataHaltReason.SUCCESSFUL, DataHaltReason.INTERNAL_ERROR}
            job.data.hang_up()
        with Job.connect(server, server, login) as job:
            job.connect_data(MoverMode.READ)
            request = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(volume / "tree")))
            assert job.data.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
            job.data.hang_up()


def test_comparison_of_what_went_through(server: Server, login: Login, room: Path) -> None:
    """After all that, the same cartridge still gives the same tree."""
    target = room / "volume" / "after"
    with Job.connect(server, server, login) as job:
        job.start_recover(str(room / "volume" / "tree"), str(target))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.data.hang_up()
    assert compare_trees(room / "volume" / "tree", target).differences == []
