"""The cookbook's chapters on libraries, typed as they stand there, on a server of their own."""

import re
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.documents import Site, code_of
from tests.support.servers import Login
from tests.support.trees import make_small_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COOKBOOK = "cookbook.md"
LIBRARY = "A library out of a directory"


@pytest.fixture
def login() -> Login:
    return Login("ndmp", "correct.horse")


@pytest.fixture
def site(make_server: MakeServer, login: Login, shm: Path) -> Site:
    """Its cartridges are smaller than the cookbook's."""
    (library,) = code_of(COOKBOOK, LIBRARY, "toml")
    for there, here in (("/var/lib/tapes", f"{shm}/tapes"), ('"100GiB"', '"2MiB"'), ('"1GiB"', '"128KiB"')):
        assert there in library
        library = library.replace(there, here)
    (shm / "tapes").mkdir()
    return Site(make_server("server", drives=0, load=False, extra=library), login, shm)


def test_a_library_out_of_a_directory(site: Site, shm: Path) -> None:
    backups, recovers, mail = code_of(COOKBOOK, LIBRARY)
    make_small_files(site.source / "home", files=200, directories=5)
    for number in range(3):
        (site.source / f"large{number}").write_bytes(bytes([number]) * 1_000_000)
    said = site.type(backups, shm)
    assert "labelled: VTL00001 VTL00002 " in said
    assert "cartridges VTL00010 VTL00001 VTL00002, tape file 1" in said  # the one labelled last was in the drive
    site.type(recovers, shm)
    assert compare_trees(site.source, site.scratch / "srv").differences == []
    said = site.type(mail, shm)
    assert "gone: VTL00001" in said
    assert "new: VTL00001" in said
    assert "VTL00001 is in slot0 of vtl0" in said


@pytest.mark.peer("ndmjob")
def test_the_library_with_ndmjob(site: Site, shm: Path) -> None:
    (commands,) = code_of(COOKBOOK, "The library with ndmjob")
    site.program("ndmjob", str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps")
    site.type("mover tape create vtl0 --count 3", shm)
    for number in range(10):
        (site.source / f"file{number}").write_bytes(bytes([number]) * 300_000)
    said = site.type(commands, shm)
    assert said.count("Writing tape label") == 3
    assert said.count("Operation ended OKAY") == 2
    assert re.findall(r'^ME "(.*)"$', said, flags=re.MULTILINE) == ["WEEK1@512", "WEEK2@513", "WEEK3@514"]
    assert said.count("had problems") == 1  # -l says so whatever it has found
    assert compare_trees(site.source, site.scratch / "week", time_granularity_ns=1000).differences == []


@pytest.mark.root
@pytest.mark.peer("amlabel", "amtape", "amdevcheck")
def test_the_library_with_amanda(site: Site, shm: Path) -> None:
    (configuration,) = code_of(COOKBOOK, "The library with Amanda", "text")
    (commands,) = code_of(COOKBOOK, "The library with Amanda")
    for name in ("amlabel", "amtape", "amdevcheck"):
        site.program(name, str(peers.require(name)))
    site.type("mover tape create vtl0 --count 2", shm)
    directory = shm / "daily"
    for name in ("info", "log", "index"):
        (directory / name).mkdir(parents=True)
    for name in ("tapelist", "disklist"):
        (directory / name).touch()
    common = [
        *('org "test"', 'dumpuser "root"', 'mailto ""', 'labelstr "^DAILY-[0-9]+$"'),
        *("tapecycle 2", "dumpcycle 1", "runspercycle 1", "tapetype SMALL"),
        *("define tapetype SMALL {", "length 60 mbytes", "filemark 0 kbytes", "}"),
        *(f'{key} "{directory}/{name}"' for key, name in (("infofile", "info"), ("logdir", "log"))),
        *(f'{key} "{directory}/{name}"' for key, name in (("indexdir", "index"), ("tapelist", "tapelist"))),
    ]
    (directory / "amanda.conf").write_text("\n".join([*common, site.placed(configuration)]))
    said = site.type(commands.replace(" daily ", " . "), directory)
    assert "slot 1: unknown state barcode VTL00001" in said
    assert said.count("Success!") == 2
    assert "label DAILY-01 is now loaded from slot 1" in said
    assert re.search(r"^ +0 +1 +32768 +32768 +label +amanda +DAILY-01$", said, flags=re.MULTILINE)
