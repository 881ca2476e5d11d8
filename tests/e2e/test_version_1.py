"""Version 1 through the real server and a client that shares no line with it: the draft's three configurations.

Source: NDMPv1 (October 1996) sections 2.1 (simple, two drives, jukebox), 2.3, 3.5 and 4; states.md section 2.
"""

import stat
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file, make_small_files
from tests.support.v1_client import V1Client, refusal
from tests.support.v1_jobs import (
    DRIVE,
    FH_UNKNOWN,
    OTHER_DRIVE,
    RECORD,
    Operator,
    back_up,
    connect,
    end_backup,
    env_of,
    halted,
    open_drive,
    recover,
)

pytestmark = pytest.mark.slow

LABEL = b"label of tape %d"
LABEL_RECORD = 512


@pytest.fixture
def source(shm: Path) -> Path:
    make_small_files(shm / "source", files=120, directories=4)
    make_large_file(shm / "source" / "large", size=700_000)
    return shm / "source"


# ---- one drive


@pytest.mark.parametrize("fragments", [1, 2, 37])
def test_the_simple_configuration(local: Server, login: Login, source: Path, shm: Path, fragments: int) -> None:
    """2.1, figure 1: one file system to one drive, and back."""
    with connect(local, login, fragments=fragments) as client:
        env = env_of(source, TYPE="dump", HIST="n", LEVEL="0", SITE="ours")
        saved = back_up(client, env)
        assert [pair for pair in saved if pair in env] == env  # under the names they came with
        assert not {post.code for post in client.posts} & {v1.FH_ADD_UNIX, v1.FH_ADD_UNIX_DIR, v1.FH_ADD_UNIX_NODE}
        recover(client, saved, shm / "target")
    assert compare_trees(source, shm / "target").differences == []


def test_history_by_directory_and_node(local: Server, login: Login, source: Path) -> None:
    """4.3.2, 4.3.3: every object in its directory, and its attributes behind that."""
    with connect(local, login) as client:
        back_up(client, env_of(source, HIST="y"))
        names: dict[int, tuple[bytes, int]] = {}
        nodes: dict[int, tuple[int, ...]] = {}
        for post in client.posts:
            if post.code == v1.FH_ADD_UNIX_DIR:
                names |= {node: (name, parent) for name, node, parent in post.fields if name not in {b".", b".."}}
            if post.code == v1.FH_ADD_UNIX_NODE:
                assert {node for _, node in post.fields} <= names.keys() | {2}
                nodes |= {node: fstat for fstat, node in post.fields}

    def path_of(node: int) -> Path:
        parts = []
        while node in names and names[node][1] != node:
            name, node = names[node]
            parts.append(name.decode())
        return source.joinpath(*reversed(parts))

    assert {path_of(node) for node in nodes} == {source, *source.rglob("*")}
    for node, fstat in nodes.items():
        there = path_of(node).stat()
        ftype, mtime, _, _, uid, gid, mode, size, _ = fstat
        assert ftype == (0 if stat.S_ISDIR(there.st_mode) else 4)
        assert (mtime, uid, gid, mode) == (int(there.st_mtime), there.st_uid, there.st_gid, there.st_mode & 0o7777)
        if ftype == 4:
            assert size == there.st_size


def test_history_by_path(local: Server, login: Login, source: Path) -> None:
    """4.3.1: the full path relative to the root of the backup."""
    with connect(local, login) as client:
        back_up(client, env_of(source, HIST="f"))
        posts = [post for post in client.posts if post.code == v1.FH_ADD_UNIX]
    paths = {name for post in posts for name, _ in post.fields}
    assert {bytes(path.relative_to(source)) for path in source.rglob("*")} <= {path.lstrip(b"/") for path in paths}


def test_some_names_and_where_each_goes(local: Server, login: Login, source: Path, shm: Path) -> None:
    """3.5.3: a name relative to the root of the backup, a full destination; fh_info may be ignored."""
    with connect(local, login) as client:
        saved = back_up(client, env_of(source))
        open_drive(client, v1.READ_MODE)
        wanted = [
            (b"large", bytes(shm / "out" / "elsewhere"), 0),
            (b"/directory-001", bytes(shm / "out" / "one"), 4711),
            (b"not-there", bytes(shm / "out" / "nothing"), FH_UNKNOWN),
        ]
        client.start_recover(saved, wanted)
        assert halted(client) == v1.SUCCESSFUL
        client.stop()
        assert any("not-there: not in the dump" in line for line in client.logged())
        assert not [post for post in client.posts if post.code == 0x602]  # LOG_FILE has no layout
    assert (shm / "out" / "elsewhere").read_bytes() == (source / "large").read_bytes()
    assert compare_trees(source / "directory-001", shm / "out" / "one").differences == []
    assert not (shm / "out" / "nothing").exists()


@pytest.mark.parametrize("name", ["filesystem", "FILESYSTEM", "PREFIX", "ID"])
def test_what_may_name_the_root(local: Server, login: Login, source: Path, name: str) -> None:
    """3.5.2: the table of variables; ID "identifies the object to be backed up"."""
    with connect(local, login) as client:
        env = [(name.encode(), bytes(source))]
        assert env[0] in back_up(client, env)


def test_debug_messages_on_demand(local: Server, login: Login, source: Path) -> None:
    """4.2.2: a level says for whom and how often."""
    with connect(local, login) as client:
        back_up(client, env_of(source))
        assert not [post for post in client.posts if post.code == v1.LOG_DEBUG]
        back_up(client, env_of(source, DEBUG="y"))
        levels = [post.fields for post in client.posts if post.code == v1.LOG_DEBUG]
    assert [level for level, _ in levels] == [3, 3]  # DIAG_INFO
    assert b"BACKUP on vtl0/drive0 in records of 20480 bytes" in levels[0][1]
    assert b"121 files, 0 errors" in levels[1][1]


# ---- several connections


def test_the_two_drive_configuration(make_server: MakeServer, login: Login, source: Path, shm: Path) -> None:
    """2.1, figure 2: a connection, and a state machine, a drive; both work at once."""
    server = make_server("server", drives=2)
    with connect(server, login) as one, connect(server, login) as other:
        open_drive(one, v1.WRITE_MODE)
        assert refusal(other.tape_open, DRIVE, v1.READ_MODE) == "DEVICE_BUSY_ERR"
        open_drive(other, v1.WRITE_MODE, drive=OTHER_DRIVE)
        assert refusal(one.tape_open, OTHER_DRIVE, v1.READ_MODE) == "DEVICE_OPENED_ERR"
        one.start_backup(env_of(source / "directory-000"))
        other.start_backup(env_of(source))
        saved = [end_backup(one), end_backup(other)]
        for client, drive in ((one, DRIVE), (other, OTHER_DRIVE)):
            open_drive(client, v1.READ_MODE, drive=drive)
        one.start_recover(saved[0], [(b"/", bytes(shm / "part"), FH_UNKNOWN)])
        other.start_recover(saved[1], [(b"/", bytes(shm / "whole"), FH_UNKNOWN)])
        assert [halted(one), halted(other)] == [v1.SUCCESSFUL] * 2
    assert compare_trees(source / "directory-000", shm / "part").differences == []
    assert compare_trees(source, shm / "whole").differences == []


def test_the_jukebox_configuration(make_server: MakeServer, login: Login, source: Path, shm: Path) -> None:
    """2.1, figure 3: one connection has the robot, another the drive.

    The connection that would have the robot is told that there is no such changer, and stays in use beside the job; an
    operator moves the cartridges.
    """
    server = make_server("server", load=False)
    operator = Operator(server, 2)
    with connect(server, login) as robot, connect(server, login) as client:
        assert refusal(client.tape_open, DRIVE, v1.WRITE_MODE) == "NO_TAPE_LOADED_ERR"
        saved = []
        for number, part in enumerate(("directory-000", "directory-001")):
            assert refusal(robot.done, v1.SCSI_OPEN, v1.text(b"no such changer")) == "NO_DEVICE_ERR"
            operator.change(number)
            saved.append(back_up(client, env_of(source / part)))
        for number, target in ((1, "second"), (0, "first")):
            assert refusal(robot.done, v1.SCSI_RESET_DEVICE) == "DEV_NOT_OPEN_ERR"
            operator.change(number)
            recover(client, saved[number], shm / target)
    assert compare_trees(source / "directory-000", shm / "first").differences == []
    assert compare_trees(source / "directory-001", shm / "second").differences == []


# ---- several tapes


def write_label(client: V1Client, number: int) -> None:
    """A tape file of its own, in small records, as a DMA writes it whenever it likes."""
    client.set_record_size(LABEL_RECORD)
    assert client.tape_write(LABEL % number) == ("NO_ERR", LABEL_RECORD)
    client.mtio(v1.EOF)


def to_image(client: V1Client, number: int) -> None:
    """Check the label and go behind it."""
    client.set_record_size(LABEL_RECORD)
    error, label = client.tape_read(LABEL_RECORD)
    assert (error, label.rstrip(b"\0")) == ("NO_ERR", LABEL % number)
    assert client.mtio(v1.FSF) == 0


def test_a_tree_over_three_tapes(make_server: MakeServer, login: Login, shm: Path) -> None:
    """3.5.2, 3.5.3, 3.5.6: PAUSED at the end of each tape, CONTINUE on the next, in the same record size."""
    source = shm / "source"
    make_small_files(source, files=200, directories=5)
    make_large_file(source / "large", size=4_000_000)
    server = make_server("server", cartridge_size="2MiB", early_warning="100KiB", load=False)
    operator = Operator(server, 3)
    with connect(server, login) as client:
        operator.change(0)
        client.tape_open(DRIVE, v1.WRITE_MODE)
        write_label(client, 0)
        client.set_record_size(RECORD)
        client.start_backup(env_of(source, HIST="y"))
        tapes = 1
        records = []
        while client.wait_for(v1.NOTIFY_PAUSED, v1.NOTIFY_HALTED) == (v1.NOTIFY_PAUSED, (v1.PAUSE_EOM, 0)):
            state = client.data_state()
            assert (state.operation, state.state, state.halt_reason, state.pause_reason) == (v1.BACKUP, v1.PAUSED, 0, 1)
            assert client.env()
            records.append(client.tape_state().record_num)
            assert state.bytes_processed == sum(records) * RECORD
            client.mtio(v1.EOF)  # behind early warning a mark still fits
            client.mtio(v1.OFF)
            assert refusal(client.go_on) == "NO_TAPE_LOADED_ERR"
            assert client.data_state()[:4] == state[:4]
            client.tape_close()
            assert refusal(client.go_on) == "DEV_NOT_OPEN_ERR"
            operator.change(tapes)
            client.tape_open(DRIVE, v1.READ_MODE)
            assert refusal(client.go_on) == "PERMISSION_ERR"
            client.tape_close()
            client.tape_open(DRIVE, v1.WRITE_MODE)
            write_label(client, tapes)
            client.go_on()
            tapes += 1
        assert tapes == 3
        assert client.data_state()[1:3] == (v1.HALTED, v1.SUCCESSFUL)
        processed = client.data_state().bytes_processed
        records.append(client.tape_state().record_num)
        assert 0 <= sum(records) * RECORD - processed < RECORD  # nothing lost, nothing twice, one pad
        saved = client.env()
        client.stop()
        client.mtio(v1.EOF)
        client.tape_close()

        operator.change(0)
        client.tape_open(DRIVE, v1.READ_MODE)
        to_image(client, 0)
        client.set_record_size(RECORD)
        client.start_recover(saved, [(b"/", bytes(shm / "target"), FH_UNKNOWN)])
        for number in (1, 2):
            assert client.wait_for(v1.NOTIFY_PAUSED, v1.NOTIFY_HALTED) == (v1.NOTIFY_PAUSED, (v1.PAUSE_EOF, 0))
            state = client.data_state()
            assert (state.operation, state.state, state.pause_reason) == (v1.RESTORE, v1.PAUSED, v1.PAUSE_EOF)
            assert state.bytes_processed == sum(records[:number]) * RECORD
            client.tape_close()
            operator.change(number)
            client.tape_open(DRIVE, v1.READ_MODE)
            to_image(client, number)
            client.go_on()
        assert halted(client) == v1.SUCCESSFUL, client.logged()
        assert processed - RECORD < client.data_state().bytes_processed <= processed  # all but the dump's own pad
        client.stop()
        client.tape_close()
    assert compare_trees(source, shm / "target").differences == []


def test_a_part_without_a_filemark_ends_with_its_tape(make_server: MakeServer, login: Login, shm: Path) -> None:
    """Blank tape is the end of the medium to a recover (states.md 2.2); the next part may lie in another drive."""
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=600_000)
    server = make_server("server", drives=2, cartridge_size="512KiB", early_warning="64KiB")
    with connect(server, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.start_backup(env_of(source))
        assert client.wait_for(v1.NOTIFY_PAUSED).fields == (v1.PAUSE_EOM, 0)
        client.tape_close()
        client.tape_open(OTHER_DRIVE, v1.WRITE_MODE)
        client.go_on()
        saved = end_backup(client)
        open_drive(client, v1.READ_MODE)
        client.start_recover(saved, [(b"/", bytes(shm / "target"), FH_UNKNOWN)])
        assert client.wait_for(v1.NOTIFY_PAUSED, v1.NOTIFY_HALTED) == (v1.NOTIFY_PAUSED, (v1.PAUSE_EOM, 0))
        client.tape_close()
        open_drive(client, v1.READ_MODE, drive=OTHER_DRIVE)
        client.go_on()
        assert halted(client) == v1.SUCCESSFUL
    assert compare_trees(source, shm / "target").differences == []


def test_the_next_part_in_another_tape_file(local: Server, login: Login, shm: Path) -> None:
    """A recover stands in front of the filemark that paused it, and goes on wherever the DMA has put the tape."""
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=200_000)
    with connect(local, login) as client:
        saved = back_up(client, env_of(source))
        open_drive(client, v1.READ_MODE)
        records = []
        while (found := client.tape_read(RECORD))[0] == "NO_ERR":
            records.append(found[1])
        client.tape_close()
        open_drive(client, v1.WRITE_MODE)
        for part in (records[:4], [b"not of the image"], records[4:]):
            assert client.tape_write(b"".join(part))[0] == "NO_ERR"
            client.mtio(v1.EOF)
        client.mtio(v1.REW)
        client.start_recover(saved, [(b"/", bytes(shm / "target"), FH_UNKNOWN)])
        for _ in range(2):  # at the mark itself there is nothing to go on with
            assert client.wait_for(v1.NOTIFY_PAUSED, v1.NOTIFY_HALTED) == (v1.NOTIFY_PAUSED, (v1.PAUSE_EOF, 0))
            assert client.tape_state().file_num == 0
            client.go_on()
        assert client.wait_for(v1.NOTIFY_PAUSED).fields == (v1.PAUSE_EOF, 0)
        assert client.mtio(v1.FSF, 2) == 0
        client.go_on()
        assert halted(client) == v1.SUCCESSFUL, client.logged()
    assert compare_trees(source, shm / "target").differences == []
