"""Runs every command of an operator against a server of its own, and puts what it prints into docs/operations.md.

What differs from run to run (times, ports, process ids, passwords, the directory) is made the same before it is
written. With --check nothing is written: the form is compared, the commands and their lines without numbers. A test
runs the commands, each of which has to end well, and holds the document to the list of them.
"""

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from mover.ndmp.enums import TapeMode
from mover.ndmp.messages import TapeOpenRequest
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, Server, write_config

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
LOGIN: Final = Login("ndmp", "a secret for an hour")
SHOWN: Final = "/srv/mover-examples"
"""In place of the temporary directory, whose name is as long."""
HOST: Final = "127.0.0.1:10000"
TIME_LIMIT_S: Final = 120
WIDTH: Final = 120


class Part(NamedTuple):
    """Some commands that belong together.

    Attributes:
        session: a DMA is logged in meanwhile, and has the drive open.
    """

    title: str
    text: str
    commands: tuple[str, ...]
    session: bool = False


PARTS: Final = (
    Part(
        "What is there",
        "The commands find the server by its configuration, `$MOVER_CONFIG` or `/etc/mover/mover.toml`.",
        ("mover version", "mover node show", "mover volume show", "mover library show", "mover tape show"),
    ),
    Part(
        "Cartridges of a virtual library",
        "`load` without `--barcode` takes the first empty one, and makes one where there is none.",
        (
            "mover tape create vtl0 --count 2",
            "mover tape load vtl0/drive0",
            "mover tape unload vtl0/drive0",
            "mover library move vtl0 slot1 mail0",
            "mover library inventory vtl0",
            "mover library move vtl0 mail0 slot1",
        ),
    ),
    Part(
        "Users and roles",
        "A login password is asked for, or is the first line of a file.",
        (
            "mover user create --user ops --role backup --volumes srv --password-file {place}/ops.login",
            "mover user modify --user ops --devices vtl0/drive0,vtl0/changer",
            "mover generate-password --user ops",
            "mover role create --role night --access readonly",
            "mover user modify --user ops --role night",
            "mover user show",
            "mover role show",
            "mover user delete --user ops",
            "mover role delete --role night",
        ),
    ),
    Part(
        "A backup and a recover",
        "Jobs of the built-in DMA; `$MOVER_PASSWORD_FILE` holds the name of the file with the NDMP password.",
        (
            "mover cartridge label --host {host} --user ndmp --drive vtl0/drive0 --changer vtl0/changer",
            "mover backup {place}/files --host {host} --user ndmp --drive vtl0/drive0 --changer vtl0/changer",
            "mover backup {place}/files --host {host} --user ndmp --drive vtl0/drive0 --changer vtl0/changer --level 1",
            "mover list",
            "mover list --job 1",
            "mover cartridge list",
            "mover cartridge inventory --host {host} --user ndmp --drive vtl0/drive0 --changer vtl0/changer",
            "mover recover --job 1 --host {host} --user ndmp --drive vtl0/drive0 --destination {place}/back",
            "mover copy {host}:{place}/files {host}:{place}/copied -sa ndmp",
            "mover jobs",
            "mover dumpdates list",
            "mover dumpdates export {place}/dates",
            "mover dumpdates delete {place}/files",
            "mover dumpdates import {place}/dates",
        ),
    ),
    Part(
        "What is on a cartridge",
        "Of one in a slot, in a drive that nobody has open, or any file.",
        (
            "mover tape ls VTL00002",
            "mover tape verify VTL00002",
            "mover tape extract VTL00002 --output {place}/stream",
        ),
    ),
    Part(
        "Sessions",
        "While a DMA is logged in and has the drive open. `mover top` shows the same and more, live.",
        (
            "mover status",
            "mover probe",
            "mover log start --session-id {session} --advanced",
            "mover log stop --session-id {session} --advanced",
            "mover kill --session-id {session}",
            "mover kill-all",
        ),
        session=True,
    ),
    Part(
        "Options",
        "",
        (
            "mover modify --sessions 8",
            "mover off",
            "mover on",
            "mover show",
            "mover modify --reset sessions --reset enable",
            "mover extensions show --advanced",
            "mover extensions modify 0x2051 off --advanced",
            "mover extensions modify 0x2051 default --advanced",
        ),
    ),
    Part(
        "When something is wrong",
        "",
        (
            "mover conformance {host} --user ndmp --versions 4 --groups connect",
            "mover explain DEVICE_BUSY_ERR",
        ),
    ),
)
ELSEWHERE: Final = ("serve", "top", "replay", "volume move")
"""Commands that are not shown: the document says where they are told of."""
_BLOCK: Final = re.compile(
    r"(<!-- what commands print: begin, made by scripts/operations-docs -->\n).*?(<!-- what commands print: end -->)",
    re.DOTALL,
)


_SAME: Final = (
    (re.compile(r"127\.0\.0\.1:\d{4,5}\b"), HOST),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d\b"), "2026-01-31 12:00"),
    (re.compile(r"(?<=12:00):\d\d\b"), ":00"),
    (re.compile(r"\d{8}T\d{6}\.\d{3}Z"), "20260131T120000.000Z"),
    (re.compile(r"(?<=client-port: )\d+"), "40000"),
    (re.compile(r"(?<=\(pid )\d+"), "1234"),
    (re.compile(r"(?m)^ *\d+(?=  (data|tape|relay) )"), "      1240"),
    (re.compile(r"(?m)^Password: \w{16}$"), "Password: jWZiNt57huPOoD8d"),
    (re.compile(r"(?m)[ \t]+$"), ""),
)
"""What differs from run to run, and what stands in its place."""


_PROGRESS: Final = re.compile("connecting|positioning|transferring|finishing|source:|destination:")


class Result(NamedTuple):
    """One command as it ran."""

    command: str
    status: int
    output: str


class Runner:
    """Runs commands against a server, and makes what they print the same each time."""

    def __init__(self, place: Path, server: Server) -> None:
        self.place, self.server = place, server
        self.session: object = 0
        self._environment = {
            **os.environ,
            "MOVER_CONFIG": str(server.config),
            "MOVER_PASSWORD_FILE": str(place / "ndmp.secret"),
            "HOME": str(place),
            "XDG_DATA_HOME": str(place),
            "COLUMNS": str(WIDTH),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        }

    def run(self, command: str) -> Result:
        """One command line."""
        words = shlex.split(command.format(place=self.place, host=self.server.address, session=self.session))
        ended = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=TIME_LIMIT_S, env=self._environment, check=False,
        )  # fmt: skip
        shown = command.format(place=SHOWN, host=HOST, session=self.session)
        return Result(shown, ended.returncode, self._same(ended.stdout))

    def _same(self, text: str) -> str:
        """Without what differs from run to run."""
        text = text.replace(self.server.address, HOST).replace(str(self.place), SHOWN)
        for differs, same in _SAME:
            text = differs.sub(same, text)
        return text


@contextmanager
def sample() -> Iterator[Runner]:
    """A server with a volume, a virtual library and a user."""
    with tempfile.TemporaryDirectory(prefix="mover-", dir="/tmp") as name:
        place = Path(name)
        for below in ("files", "files/reports"):
            (place / below).mkdir()
        for number in range(3):
            (place / "files/reports" / f"{number}.txt").write_text("a line of a report\n" * 1000)
        for secret, text in (("ndmp.secret", LOGIN.password), ("ops.login", "correct horse battery")):
            (place / secret).touch(mode=0o600)
            (place / secret).write_text(text + "\n")
        config = write_config(place / "server", LOGIN, volumes={"srv": place}, drives=1)
        text = config.read_text()
        config.write_text(
            text.replace('name = "server"', 'name = "node1"', 1).replace('name = "only"', 'name = "mgmt"')
        )
        with Server(config) as server:
            yield Runner(place, server)


def results() -> list[tuple[Part, list[Result]]]:
    """Everything, in order."""
    made = []
    with sample() as runner:
        for part in PARTS:
            with ExitStack() as stack:
                if part.session:
                    client = stack.enter_context(NdmpClient(runner.server.address, login=LOGIN))
                    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
                    sessions = runner.server.ask("status")["sessions"]
                    assert isinstance(sessions, list)
                    runner.session = sessions[0]["session-id"]
                made.append((part, [runner.run(command) for command in part.commands]))
    return made


def wrong(made: list[tuple[Part, list[Result]]]) -> list[str]:
    """A line for each command that failed."""
    return [
        f"{result.command}: exit status {result.status}: {result.output}"
        for _, each in made
        for result in each
        if result.status
    ]


def written(made: list[tuple[Part, list[Result]]]) -> str:
    """As it stands in the document."""
    lines = []
    for part, each in made:
        lines += [f"### {part.title}", "", *([part.text, ""] if part.text else []), "```console"]
        for number, result in enumerate(each):
            lines += [*([""] if number else []), f"$ {result.command}", *result.output.splitlines()]
        lines += ["```", ""]
    return "\n".join(lines)


def form(text: str) -> list[str]:
    """The lines without numbers and the width of columns: what should be the same in each run.

    Words of how far a job is come as its time has it: they are left out.
    """
    lines = [line for line in text.splitlines() if not _PROGRESS.match(line)]
    return [re.sub(r"[\d.,]+", "0", re.sub(r"[ -]+", " ", line)).strip() for line in lines]


def commands_told() -> list[str]:
    """The command lines that the document has."""
    return [line.removeprefix("$ ") for line in told().splitlines() if line.startswith("$ ")]


def told() -> str:
    """What the document has."""
    found = _BLOCK.search(DOCUMENT.read_text())
    assert found is not None, "docs/operations.md has no place for what commands print"
    return found.group(0)[len(found.group(1)) : -len(found.group(2))]


def write(text: str) -> None:
    """Put it into the document."""
    whole = DOCUMENT.read_text()
    DOCUMENT.write_text(_BLOCK.sub(lambda found: found.group(1) + text + found.group(2), whole))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/operations-docs", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 where the form is another one"
    )
    options = parser.parse_args()
    made = results()
    failures = wrong(made)
    if not failures and options.check:
        text = written(made)
        failures = list(difflib.unified_diff(form(told()), form(text), "docs/operations.md", "now", lineterm=""))
    if failures:
        print("\n".join(failures), file=sys.stderr)
        return 1
    if not options.check:
        write(written(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
