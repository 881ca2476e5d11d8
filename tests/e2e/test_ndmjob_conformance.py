"""ndmjob's own conformance tests against the real server: it may find no failure, and no other error than it expects.

Judged by the summary lines that the tool prints. A run of it ends at its first failure or warning.
Source: the notes on ndmjob as a peer; states.md sections 5.9 and 7.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import peers
from tests.support.servers import Login, Server

pytestmark = [pytest.mark.peer("ndmjob"), pytest.mark.slow]
TIME_LIMIT_S = "100"
SHIM = Path(__file__).parent.parent / "peers" / "ndmjob_test_tape.c"
PASSED = re.compile(r'"(?:Test (\S+)|FINAL (\S+)) Passed -- pass=(\d+) warn=(\d+) fail=(\d+) \(total (\d+)\)"')
# Test "T-BWR #23 -- Failed NDMP4_TAPE_READ/NDMP9_NO_ERR Failed compare"; Almost is the tool's word for a warning
FOUND = re.compile(r'"(\S+ #\d+ -- (?:Failed|Almost) .*)"')

MOVER = {
    "M-IDLE": 7,
    "M-LISTEN": 3,
    "M-LISTEN/bogus-args": 2,
    "M-LISTEN/not-open": 8,
    "M-LISTEN/tape-ro": 30,
    "M-LISTEN/tape-rw": 50,
    "test-mover": 100,
}
DATA = {"D-IDLE": 3, "D-LISTEN": 19, "D-LISTEN/bogus-args": 1, "test-data": 24}
DATA_2 = {"D-IDLE": 3, "test-data": 3}
TAPE_BASICS = {"T-OC": 8, "T-BGS": 4, "T-BW": 13, "T-BR": 20}
TAPE_SERIES = {"T-WRITE": 11, "T-READ": 20, "T-MTIO": 11}
BWR_CHECKS = 36


class Verdict(NamedTuple):
    """What the tool printed.

    Attributes:
        passed: checks passed, by phase, the whole test last.
        found: failures and warnings.
    """

    passed: dict[str, int]
    found: list[str]
    said: str


def run(test: str, version: int, server: Server, login: Login, directory: Path, preload: Path | None = None) -> Verdict:
    """Run one of the tool's tests; a phase that passed with a warning counts as found."""
    agent = "-D" if test == "test-data" else "-T"
    address = f"{server.address}/{version}m,{login.user},{login.password}"
    command = ["timeout", TIME_LIMIT_S, str(peers.require("ndmjob")), "-v", "-d1", "-o", "no-time-stamps"]
    command += ["-o", test, agent, address, "-f", "vtl0/drive0"]
    # env sets it for ndmjob alone: timeout does not have what the shim stands in for
    if preload is not None:
        command[2:2] = ["env", f"LD_PRELOAD={preload}"]
    result = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, errors="backslashreplace", check=False
    )
    said = result.stdout + result.stderr
    assert result.returncode != 124, f"ndmjob did not end:\n{said}"
    passed, found = {}, FOUND.findall(said)
    for phase, final, good, warned, failed, total in PASSED.findall(said):
        passed[phase or final] = int(good)
        if (warned, failed, good) != ("0", "0", total):
            found.append(f"{phase or final}: {good} of {total} passed")
    return Verdict(passed, found, said)


def compile_shim(directory: Path, *flags: str) -> Path:
    shim = directory / "shim.so"
    command = [
        str(peers.require("cc")),
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-Wall",
        "-Werror",
        *flags,
        "-o",
        str(shim),
        str(SHIM),
    ]
    subprocess.run(command, check=True, timeout=60, env=os.environ | {"LC_ALL": "C"})
    return shim


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("test", ["test-mover", "test-data"])
def test_mover_and_data(test: str, version: int, local: Server, login: Login, shm: Path) -> None:
    expected = MOVER if test == "test-mover" else DATA if version > 2 else DATA_2
    verdict = run(test, version, local, login, shm)
    assert verdict.found == [], verdict.said
    assert verdict.passed == expected, verdict.said
    assert "LOCAL and TCP addressing tested." in verdict.said


@pytest.mark.peer("ndmjob", "cc")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_tape_as_far_as_the_client_is_right(version: int, local: Server, login: Login, shm: Path) -> None:
    verdict = run("test-tape", version, local, login, shm, compile_shim(shm))
    if verdict.found:  # else the fault is mended in this build, and it has gone all the way
        fault = f"T-BWR #23 -- Failed NDMP{version}_TAPE_READ/NDMP9_NO_ERR Failed compare"
        assert verdict.found == [fault], verdict.said
        assert verdict.passed == TAPE_BASICS, verdict.said
    else:
        whole = {**TAPE_BASICS, "T-BWR": BWR_CHECKS, **TAPE_SERIES, "test-tape": 123}
        assert verdict.passed == whole, verdict.said


@pytest.mark.peer("ndmjob", "cc")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_tape_behind_the_client_s_fault(version: int, local: Server, login: Login, shm: Path) -> None:
    verdict = run("test-tape", version, local, login, shm, compile_shim(shm, "-DSKIP_BWR"))
    assert verdict.found == [], verdict.said
    # It closes the phase in front of the skipped one once more, and counts it twice.
    total = 123 - BWR_CHECKS + TAPE_BASICS["T-BR"]
    assert verdict.passed == {**TAPE_BASICS, **TAPE_SERIES, "test-tape": total}, verdict.said
