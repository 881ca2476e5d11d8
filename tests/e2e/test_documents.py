"""The documents for administrators, typed as they stand there."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.documents import DEADLINE_S, Site, code_of, code_of_preamble
from tests.support.servers import Login, Server
from tests.support.trees import make_small_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COOKBOOK = "cookbook.md"
PAIR, DMA, TROUBLE, WITHOUT = "three-way.md", "dma.md", "troubleshoot.md", "restore-without-mover.md"
OPERATIONS = "operations.md"
STATED = 'state_directory = "{0}/state"\nadmin_socket = "{0}/admin.sock"\nmetrics = ""\n'


@pytest.fixture
def login() -> Login:
    return Login("ndmp", "correct.horse")


@pytest.fixture
def site(make_server: MakeServer, login: Login, shm: Path) -> Site:
    """A server with a loaded drive and a few files."""
    found = Site(make_server("server"), login, shm)
    found.tapes = shm / "server" / "tapes"
    found.places["/var/lib/tapes"] = str(found.tapes)
    make_small_files(found.source / "home", files=50, directories=3)
    return found


def configured(document: str, heading: str, directory: Path, places: dict[str, str]) -> Path:
    """The configuration of a chapter, with this test's places, on any free port of loopback."""
    (text,) = code_of(document, heading, "toml")
    directory.mkdir()
    text = text.replace("[node]\n", "[node]\n" + STATED.format(directory), 1)
    for there, here in places.items():
        assert there in text, there
        text = text.replace(there, here)
    path = directory / "mover.toml"
    path.touch(mode=0o600)
    path.write_text(re.sub(r'^(address = "127.0.0.1")$', r"\1\nport = 0", text, flags=re.MULTILINE))
    return path


@pytest.fixture
def pair(shm: Path, login: Login) -> Iterator[tuple[Site, Path]]:
    """The file server and the tape host of the document, and the configuration of the first."""
    (shm / "tapes").mkdir()
    (shm / "restored").mkdir()
    secret = shm / "ndmp.secret"
    secret.touch(mode=0o600)
    secret.write_text(f"{login.password}\n")
    both = {
        "18600-18699": "all", "192.0.2.5/32": "127.0.0.1/32", "/etc/mover/ndmp.secret": str(secret),
    }  # fmt: skip
    files = configured(
        PAIR, "The file server", shm / "files1",
        both | {'"192.0.2.10"': '"127.0.0.1"', "192.0.2.20/32": "127.0.0.1/32", '"/srv"': f'"{shm}/srv"',
                '"/restored"': f'"{shm}/restored"'},
    )  # fmt: skip
    tapes = configured(
        PAIR, "The tape host", shm / "tapes1",
        both | {'"192.0.2.20"': '"127.0.0.1"', "192.0.2.10/32": "127.0.0.1/32", "/var/lib/tapes": f"{shm}/tapes"},
    )  # fmt: skip
    (shm / "srv").mkdir()
    with Server(tapes) as tape_host, Server(files) as file_server:
        (shm / "srv").rmdir()  # the site makes its own
        found = Site(file_server, login, shm)
        found.places |= {
            "--host 192.0.2.10": f"--host {file_server.address}",
            "--tape-host 192.0.2.20": f"--tape-host {tape_host.address}",
            "/etc/mover/ndmp.secret": str(secret), "/etc/mover/mover.toml": str(files), "/restored": f"{shm}/restored",
        }  # fmt: skip
        found.tape_socket = tape_host.ready.admin_socket
        yield found, files


def test_a_file_server_and_a_tape_host(pair: tuple[Site, Path], shm: Path) -> None:
    site, _files = pair
    make_small_files(site.source / "home", files=100, directories=4)
    (secret,) = code_of(PAIR, "The file server")
    assert "0 errors, " in site.type(secret, shm)
    own = site.environment["MOVER_ADMIN_SOCKET"]
    site.environment["MOVER_ADMIN_SOCKET"] = site.tape_socket
    (tapes,) = code_of(PAIR, "The tape host")
    assert "vtl0/drive0" in site.type(tapes, shm)
    site.environment["MOVER_ADMIN_SOCKET"] = own
    job, after = code_of(PAIR, "A job over the network")
    site.type(job, shm)
    assert compare_trees(site.source, shm / "restored").differences == []
    said = site.type(after, shm)
    assert said.count("successful") == 2


@pytest.mark.peer("ndmjob")
def test_ndmjob(site: Site, shm: Path) -> None:
    (commands,) = code_of(DMA, "ndmjob")
    site.program("ndmjob", str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps")
    (site.scratch / "back").mkdir()
    said = site.type(commands, shm)
    assert said.count("Operation ended OKAY") == 2, said
    assert compare_trees(site.source, site.scratch / "back", time_granularity_ns=1000).differences == []


def test_our_own_dma(site: Site, shm: Path) -> None:
    (commands,) = code_of(DMA, "mover's own")
    site.places["--user ndmp"] = f"--user ndmp --password-file {site.environment['MOVER_PASSWORD_FILE']}"
    site.places["--host 127.0.0.1 "] = f"--host {site.places['127.0.0.1:10000']} "
    said = site.type(commands, shm)
    assert compare_trees(site.source, site.scratch / "again").differences == []
    assert "0 failed" in said


def test_from_one_server_to_another(site: Site, make_server: MakeServer, shm: Path) -> None:
    (command,) = code_of(COOKBOOK, "From one server to another")
    other = make_server("other", drives=0)
    (site.source / "left-out.tmp").touch()
    site.places = {
        "files1:/srv ": f"{site.places['127.0.0.1:10000']}:{site.source} ",
        "files2:/srv-copy": f"{other.address}:{shm}/srv-copy",
    }
    site.type(command, shm)
    (site.source / "left-out.tmp").unlink()
    found = compare_trees(site.source, shm / "srv-copy").differences
    assert [(each.path, each.what) for each in found if each.path != b"."] == []


def test_a_backup_of_a_tenant(shm: Path) -> None:
    """The configuration of the chapter, on addresses of loopback."""
    heading = "Vservers and LIFs"
    (shm / "home").mkdir()
    make_small_files(shm / "home" / "ann", files=20, directories=2)
    (shm / "srv").mkdir()
    secret = shm / "vs1-backup.secret"
    secret.touch(mode=0o600)
    secret.write_text("correct.horse\n")
    places = {
        '"192.0.2.1"': '"127.0.0.1"', '"192.0.2.11"': '"127.0.0.2"\nport = 0', '"/srv"': f'"{shm}/srv"',
        "/vol/vs1/home": f"{shm}/home", "/etc/mover/vs1-backup.secret": str(secret),
    }  # fmt: skip
    config = configured(OPERATIONS, heading, shm / "node", places)
    (shm / "tapes").mkdir()
    with config.open("a") as file:
        file.write(f'[[library]]\nname = "vtl0"\ndirectory = "{shm}/tapes"\ndrives = 1\n')
    with Server(config) as server:
        ports = {lif.name: f"{lif.address}:{lif.port}" for lif in server.ready.lifs}
        site = Site(server, Login("ops", "unused"), shm / "site")
        site.places = {
            "192.0.2.11 ": f"{ports['vs1-data']} ", "192.0.2.1 ": f"{ports['tapes']} ",
            "/etc/mover/vs1-backup.secret": str(secret), "/etc/mover/ops.secret": f"{shm}/ops.secret",
            "/drive0 /vs1": f"/drive0 --catalogue {shm}/catalogue /vs1",
        }  # fmt: skip
        user = f"mover user create --user ops --role backup --password-file {secret} >&2"
        said = site.type(f"{user}; mover generate-password --user ops --json; mover tape load vtl0/drive0 >&2", shm)
        made = json.loads(said.partition("+ ")[0])
        (shm / "ops.secret").touch(mode=0o600)
        (shm / "ops.secret").write_text(made["password"])
        (backup,) = code_of(OPERATIONS, heading)
        site.type(backup, shm)
        (job,) = msgspec.convert(server.ask("jobs", "--vserver", "vs1")["jobs"], list[dict[str, object]])
        assert (job["state"], job["operation"]) == ("successful", "backup")
        (options,) = code_of(OPERATIONS, "Options")
        assert re.search(r"maxversion +4 .*modified", site.type(options, shm))
        (extensions,) = code_of(OPERATIONS, "Extensions")
        assert "0x2052" in site.type(extensions, shm)


def test_testing_a_server(site: Site, shm: Path) -> None:
    first, second = code_of_preamble("conformance.md").splitlines()
    address = site.places["127.0.0.1:10000"]
    site.places = {
        "fs1:10000": address, " fs1 ": f" {address} ", "file secret": f"file {shm}/password", "nst0": "vtl0/drive0",
        "/srv/": f"{site.source}/",
    }  # fmt: skip
    (site.source / "scratch").mkdir()
    passed = re.compile(r"^4 +[1-9]\d* +0 ", re.MULTILINE)  # of version 4, and none failed
    assert passed.search(site.type(f"{first} --versions 4 --groups connect,config", shm))
    # All that they ask takes minutes, and is what test_conformance.py looks at.
    assert passed.search(site.type(f"{second} --versions 4 --groups config,scsi", shm))


def test_troubleshooting(site: Site, shm: Path) -> None:
    where = "Is the host as it should be", "What does the server say", "What does a job wait for"
    doctor, (explain, jobs), (status,) = (code_of(TROUBLE, heading) for heading in where)
    site.environment["MOVER_CONFIG"] = str(shm / "server" / "mover.toml")
    assert "0 errors, " in site.type(doctor[0], shm)
    said = site.type(explain, shm)
    assert "DEVICE_BUSY_ERR (2)" in said
    assert "drive not closed\n  is " in said
    site.type("mover backup $job /srv", shm)
    assert "successful" in site.type(jobs, shm)
    site.type(status, shm)


def test_a_log_of_what_was_said(site: Site, shm: Path) -> None:
    (commands,) = code_of(TROUBLE, "What was said")
    host, port = site.places["127.0.0.1:10000"].rsplit(":", 1)
    # A connection for the log to be of: the first one of the server.
    said = site.type(f"exec 3<>/dev/tcp/{host}/{port}; read -r -n 8 -u 3 -t 30 || true; {commands}", shm)
    paths = re.findall(r"\S+/protocol-log\S*", said)
    assert paths, said


@pytest.mark.root
@pytest.mark.peer("restore")
def test_restoring_without_mover(site: Site, shm: Path) -> None:
    site.type("mover backup $job /srv", shm)
    site.type("mover backup $job /srv --type tar; mover tape unload vtl0/drive0", shm)
    (program,) = code_of(WITHOUT, "From a cartridge of a virtual library", "python")
    (shm / "untap.py").write_text(program)
    (take,) = code_of(WITHOUT, "From a cartridge of a virtual library")
    site.type(take, shm)
    dump, tar = code_of(WITHOUT, "Reading the stream")
    site.program("restore", str(peers.require("restore")))
    site.type(dump, shm)
    site.type(tar, shm)
    (again,) = code_of(WITHOUT, "And with it")
    assert "dump" in site.type(again, shm)
    stream = (site.scratch / "srv.dump").read_bytes()
    assert stream.startswith((site.scratch / "again.dump").read_bytes())
    (site.scratch / "from-dump" / "restoresymtable").unlink()  # which changes the time of the directory
    assert compare_trees(site.source, site.scratch / "from-tar").differences == []
    found = compare_trees(site.source, site.scratch / "from-dump", time_granularity_ns=1000).differences
    assert [(each.path, each.what) for each in found] == [(b".", "mtime")]


def test_levels_single_files_and_whole_chains(site: Site, shm: Path) -> None:
    """The cookbook's chapters behind each other, with the jobs that they count on."""
    people = site.source / "home"
    for name in ("ann", "bob"):
        (people / name).mkdir()
        (people / name / "letter.txt").write_text(name)
    (site.source / "left-out.tmp").touch()
    levels, subtrees = code_of(COOKBOOK, "A full backup, and levels")
    first, *others = levels.splitlines()
    site.type(first, shm)
    (people / "ann" / "new").write_text("new")
    (people / "bob" / "letter.txt").rename(people / "letter.txt")
    site.type("\n".join(others), shm)
    site.type(subtrees, shm)
    site.type("mover backup $job /srv --type tar", shm)
    (look,) = code_of(COOKBOOK, "What is on the tapes, and how it went")
    assert "/home/ann/letter.txt" in site.type(look, shm)
    (single,) = code_of(COOKBOOK, "One file, a directory")
    site.type(single, shm)
    assert (site.scratch / "back" / "home" / "ann" / "letter.txt").read_text() == "ann"
    assert (site.scratch / "back" / "home" / "bob" / "letter.txt").read_text() == "bob"
    chain, tar = code_of(COOKBOOK, "Everything, as it was at the last level")
    site.type(chain, shm)
    site.type(tar, shm)
    assert compare_trees(site.source, site.scratch / "srv-tar").differences == []
    (site.source / "left-out.tmp").unlink()
    found = compare_trees(site.source, site.scratch / "srv").differences
    assert [each.path for each in found if each.what != "mtime"] == []
    (extract,) = code_of(COOKBOOK, "Without mover")
    site.type(extract, shm)
    assert (site.scratch / "level0.dump").stat().st_size
    assert (site.scratch / "level0.tar").stat().st_size


@pytest.mark.root
@pytest.mark.peer("ndmjob", "restore")
def test_the_tour_of_the_readme(checkout: Path, tmp_path: Path) -> None:
    """In one bash at the top of the checkout, as it says; its port may be taken here."""
    peers.require("ndmjob")
    peers.require("restore")
    text = (checkout / "README.md").read_text()
    chapter = text[text.index("## A tour in five minutes\n") :].split("\n## ")[0]
    serve, load, job, read, other, end = re.findall(r"^```\n(.*?)^```$", chapter, flags=re.MULTILINE | re.DOTALL)
    ready = 'until [ -S "$tour/admin.sock" ]; do kill -0 %1; sleep 0.1; done\n'
    port = str(free_port())
    script = f"{serve}{ready}{load}{job}{read}{other}{end}".replace("10000", port)
    script = script.replace("--host 127.0.0.1 ", f"--host 127.0.0.1:{port} ")
    at_exit = "trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n"  # also where a command fails
    result = subprocess.run(
        ["bash", "-emc", at_exit + script], cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="backslashreplace", timeout=DEADLINE_S, check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert "\nidentical\n" in said
    assert "Operation ended OKAY" in said
    assert not list(tmp_path.glob("tmp.*"))


def free_port() -> int:
    """A port of loopback on which nobody listens now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port
