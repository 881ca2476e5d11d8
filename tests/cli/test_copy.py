"""copy: what the DMA is told, and what is refused before a server is reached."""

import json
from pathlib import Path
from typing import Any

import pytest

from mover.dma import CopyOptions, CopyResult, Credentials, FailedName, Place, Server
from tests.cli.conftest import Run

RESULT = CopyResult(bytes_processed=3 << 20, elapsed_s=2.0, failed=[], warnings=["source: w"], log=[])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[CopyOptions]:
    """Options that a stand-in for the DMA's job was given."""
    given: list[CopyOptions] = []

    async def run(options: CopyOptions, **_: Any) -> CopyResult:
        given.append(options)
        return RESULT

    monkeypatch.setattr("mover.dma.run_copy", run)
    return given


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text("geheim\n")
    return str(file)


def test_without_a_host_it_is_this_machine(mover: Run, told: list[CopyOptions], secret: str) -> None:
    result = mover("copy", "/srv/a", "/srv/b", "-sa", "u", "--password-file", secret)
    assert result.exit_code == 0
    assert result.stdout == "everything copied, 3.0 MiB in 0:00:02, 1.5 MiB/s, warnings: 1\n"
    here, login = Server("127.0.0.1"), Credentials("u", "geheim")
    assert told == [
        CopyOptions(
            source=Place(server=here, credentials=login, path="/srv/a"),
            destination=Place(server=here, credentials=login, path="/srv/b"),
        )
    ]


def test_every_option(mover: Run, told: list[CopyOptions]) -> None:
    result = mover(
        "copy", "one:10001:/srv/a:b", "[::1]:/etc", "-sa", "u:p:q", "-da", "v:", "-st", "text", "-dt", "md5", "-l", "2",
        "--update", "-f", "-exclude", "*.o", "-exclude", "tmp", "--type", "tar", "--ndmp-version", "3", "-E", "A=b",
        "--json",
    )  # fmt: skip
    assert (result.exit_code, json.loads(result.stdout)["warnings"]) == (0, ["source: w"])
    assert told == [
        CopyOptions(
            source=Place(server=Server("one", 10001), credentials=Credentials("u", "p:q", "text"), path="/srv/a:b"),
            destination=Place(server=Server("::1"), credentials=Credentials("v", "", "md5"), path="/etc"),
            butype="tar", level=2, update=True, exclude=["*.o", "tmp"], env=[("A", "b")], max_version=3,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["/a", "/etc/", "-sa", "u:p"], 2, "/etc/ is a system directory of the destination; -f copies over it"),
        (["/a", "/", "-sa", "u:p"], 2, "/ is a system directory of the destination; -f copies over it"),
        (["/a", "/a/b/", "-sa", "u:p"], 2, "/a/b/ lies in what is copied, /a"),
        (["h:/a/../b", "h:/b", "-sa", "u:p"], 2, "/b lies in what is copied, /a/../b"),
        (["a", "/b", "-sa", "u:p"], 2, "expected [HOST[:PORT]:]/PATH, got 'a'"),
        (["h:a", "/b", "-sa", "u:p"], 2, "expected [HOST[:PORT]:]/PATH, got 'h:a'"),
        (["h:0:/a", "/b", "-sa", "u:p"], 2, "expected HOST[:PORT], got 'h:0'"),
        (["/a", "/b"], 2, "Missing option '-sa'"),
        (["/a", "/b", "-sa", ":p"], 2, "-sa: expected USER or USER:PASSWORD"),
        (["/a", "/b", "-sa", "u"], 2, "--password-file (or $MOVER_PASSWORD_FILE) is needed"),
    ],
)
def test_what_is_refused(mover: Run, told: list[CopyOptions], arguments: list[str], status: int, text: str) -> None:
    result = mover("copy", *arguments)
    assert (result.exit_code, told) == (status, [])
    assert text in result.stderr


def test_no_login_asks_for_nothing(mover: Run, told: list[CopyOptions]) -> None:
    assert mover("copy", "/a", "/b", "-st", "none", "-dt", "none").exit_code == 0
    assert told[0].source.credentials == told[0].destination.credentials == Credentials("", "", "none")


def test_names_that_failed(mover: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_options: CopyOptions, **_: Any) -> CopyResult:
        return CopyResult(100, 1.0, [FailedName(b"/x\xff", "FAILED_IO_ERROR")], [], [])

    monkeypatch.setattr("mover.dma.run_copy", run)
    result = mover("copy", "/a", "/b", "-sa", "u:p")
    assert (result.exit_code, result.stdout) == (1, "not everything copied, 100 B in 0:00:01, 100 B/s, warnings: 0\n")
    assert result.stderr == "not recovered: /x\\xff: FAILED_IO_ERROR\n"
