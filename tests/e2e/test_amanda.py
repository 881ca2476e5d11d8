"""Amanda's own tools as a DMA that nobody here wrote: drive and changer of a library, labels, dumps there and back.

Amanda speaks NDMP to the tape service only, and puts its own headers in front of each dump.
"""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.tape.offline import extract, list_files
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.servers import Login, Server
from tests.support.trees import make_small_files

pytestmark = [
    pytest.mark.peer("amlabel", "amtape", "amdevcheck", "perl"),
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(300),
]
DEADLINE_S = 120
BLOCK = 32768

CONFIGURATION = """
org "test"
dumpuser "root"
mailto ""
infofile "{directory}/info"
logdir "{directory}/log"
indexdir "{directory}/index"
tapelist "{directory}/tapelist"
tapecycle 2
dumpcycle 1
runspercycle 1
labelstr "^MOVER-[0-9]+$"
tapetype SMALL
define tapetype SMALL {{
  length 60 mbytes
  filemark 0 kbytes
}}
define device drive0 {{
  tapedev "ndmp:{address}@vtl0/drive0"
  device-property "NDMP_USERNAME" "{login.user}"
  device-property "NDMP_PASSWORD" "{login.password}"
  device-property "NDMP_AUTH" "{auth}"
}}
define changer robot {{
  tpchanger "chg-ndmp:{address}@vtl0/changer"
  property "ndmp-username" "{login.user}"
  property "ndmp-password" "{login.password}"
  property "tape-device" "0=ndmp:{address}@vtl0/drive0"
  changerfile "{directory}/robot"
}}
tpchanger "robot"
"""


class Amanda:
    """Amanda with a configuration for one server. Inside, its user is root, whoever runs the tests."""

    def __init__(self, server: Server, login: Login, directory: Path, auth: str = "md5") -> None:
        self._directory = directory
        for name in ("info", "log", "index"):
            (directory / name).mkdir(parents=True)
        for name in ("tapelist", "disklist"):
            (directory / name).touch()
        text = CONFIGURATION.format(directory=directory, address=server.address, login=login, auth=auth)
        (directory / "amanda.conf").touch(mode=0o600)
        (directory / "amanda.conf").write_text(text)

    def run(self, program: str, *arguments: str) -> str:
        """What one of its tools said; it must have ended well."""
        return self._run([str(peers.require(program)), ".", *arguments])

    def device(self, *arguments: str) -> str:
        """The same of the script for its device library."""
        return self._run([str(peers.require("amlabel").with_name("amanda-device")), *arguments])

    def _run(self, command: list[str]) -> str:
        result = subprocess.run(
            command, cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="backslashreplace", timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        said = result.stdout + result.stderr
        assert result.returncode == 0, said
        return said

    def slots(self) -> dict[int, str]:
        """Its own picture of the library: what it says of each slot that is not empty."""
        found = re.findall(r"^slot +(\d+): (.*)$", self.run("amtape", "inventory"), flags=re.MULTILINE)
        return {int(number): text for number, text in found if not text.startswith("empty")}


def tar(source: Path, path: Path) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(source, arcname=".")
    return path


@pytest.mark.parametrize("auth", ["md5", "text"])
def test_a_drive_is_labelled_and_known_again(make_server: MakeServer, login: Login, shm: Path, auth: str) -> None:
    amanda = Amanda(make_server("server"), login, shm / "amanda", auth)
    assert "VOLUME_UNLABELED" in amanda.run("amdevcheck", "drive0")
    said = amanda.run("amlabel", "-o", "tpchanger=drive0", "MOVER-01")
    assert "Found an empty tape." in said
    assert "Success!" in said
    assert amanda.run("amdevcheck", "--label", "drive0").split() == ["MOVER-01"]
    assert "SUCCESS" in amanda.run("amdevcheck", "drive0")


def test_dumps_there_and_back_on_cartridges_of_a_robot(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server", load=False)
    names = server.ask("tape", "create", "vtl0", "--count", "3")["barcodes"]
    assert isinstance(names, list)
    amanda = Amanda(server, login, shm / "amanda")
    assert [text.split(" barcode ")[1].split()[0] for text in amanda.slots().values()] == names
    for number in (1, 2):
        assert "Success!" in amanda.run("amlabel", f"MOVER-0{number}", "slot", f"{number}")
    assert [text.split()[:2] for text in list(amanda.slots().values())[:2]] == [
        ["label", "MOVER-01"],
        ["label", "MOVER-02"],
    ]
    assert "label MOVER-01 is now loaded from slot 1" in amanda.run("amtape", "label", "MOVER-01")
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=300, directories=5)
    first, second, back = tar(source, shm / "first.tar"), shm / "second", shm / "back"
    second.write_bytes(b"not of any kind " * 100_000)
    amanda.device("write", "drive0", "MOVER-01", str(first), str(second))
    for number, path in ((1, first), (2, second)):
        header = amanda.device("read", "drive0", f"{number}", str(back))
        assert header.startswith("AMANDA: FILE 20240101000000 files1 ")
        content = path.read_bytes()
        got = back.read_bytes()
        assert got[: len(content)] == content
        assert len(got) == -(-len(content) // BLOCK) * BLOCK  # the last block is filled up with what Amanda had in it
    assert "MOVER-02" in amanda.run("amtape", "slot", "2")
    assert "drive ejected" in amanda.run("amtape", "eject")
    said = amanda.run("amtape", "update")
    assert re.findall(r"slot (\d): Recording label '([^']*)'", said) == [("1", "MOVER-01"), ("2", "MOVER-02")]
    # What Amanda wrote, by mover's own tools.
    cartridge = str(shm / "server" / "tapes" / f"{names[0]}.tap")
    assert [(each.kind, each.writer, each.record_bytes) for each in list_files(cartridge).files] == [
        ("label", "amanda", BLOCK), ("tar", "amanda", BLOCK), ("unknown", "amanda", BLOCK),
    ]  # fmt: skip
    assert list_files(cartridge).files[0].label == "MOVER-01"
    output = shm / "out.tar"
    assert extract(cartridge, str(output)).number == 1
    target.mkdir()
    with tarfile.open(output) as archive:
        archive.extractall(target, filter="fully_trusted")
    assert compare_trees(source, target, time_granularity_ns=1_000_000_000).differences == []
