"""Runs every check of `mover conformance` and writes what came of it into docs/conformance.md, between its markers.

A test compares the number of rows in the document with the number of checks there are, so that counts go stale loudly.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from load_runs import ndmjob

from mover.conformance.groups import GROUPS_BY_VERSION
from mover.conformance.options import VERSIONS, Options
from mover.conformance.results import Result, Row
from mover.conformance.run import run
from tests.support import peers
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
OWN, NDMJOB = "mover", "ndmjob"
RUN_ROWS: Final = 2
"""Rows of a version that no group lists: a session opens, the shutdown."""
NDMJOB_VERSIONS: Final = (2, 3, 4)
CHECK_LIMIT_S: Final = 120.0
"""Of a check: a machine that does other things too is no failure."""
NDMJOB_TIMEOUT_S: Final = 3.0
NDMJOB_GROUPS_LEFT_OUT: Final = ("notices",)
"""It has no limit of sessions, and its daemon forks: there is nobody to tell."""


def rows_of(version: int, left_out: tuple[str, ...] = ()) -> int:
    """How many rows a run of a version has."""
    groups = {name: group for name, group in GROUPS_BY_VERSION[version].items() if name not in left_out}
    checks = sum(len(list(group(version))) for group in groups.values())
    of_run = RUN_ROWS - ("notices" in left_out)
    return checks + len(groups) + of_run


def block(name: str) -> re.Pattern[str]:
    """Where a table stands in the document."""
    return re.compile(rf"(<!-- counts of {name}: begin -->\n).*?(<!-- counts of {name}: end -->)", re.DOTALL)


def table(counts: dict[int, dict[str, int]]) -> str:
    """A row a version."""
    lines = ["| version | " + " | ".join(result.value for result in Result) + " |", "| --- " * (len(Result) + 1) + "|"]
    lines += [
        f"| {version} | " + " | ".join(str(of[result.value]) for result in Result) + " |"
        for version, of in counts.items()
    ]
    return "\n".join(lines) + "\n"


def told(name: str) -> dict[int, int]:
    """Version -> rows in all, as the document has them."""
    found = block(name).search(DOCUMENT.read_text())
    assert found is not None, f"docs/conformance.md has no counts of {name}"
    numbers = [[int(cell) for cell in re.findall(r"\d+", line)] for line in found.group(0).splitlines()]
    return {line[0]: sum(line[1:]) for line in numbers if len(line) == len(Result) + 1}


def write(name: str, counts: dict[int, dict[str, int]]) -> None:
    """Put a table into the document."""
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(block(name).sub(lambda found: found.group(1) + table(counts) + found.group(2), text))


def say(row: Row) -> None:
    """A failure, as it is found."""
    if row.result is Result.FAIL:
        print(f"version {row.version}: {row.group}: {row.check}: {row.detail}", file=sys.stderr)


@contextmanager
def _own_server(place: Path) -> Iterator[Options]:
    login = Login("ndmp", "a secret for an hour")
    for name in ("source", "target"):
        (place / name).mkdir()
    make_large_file(place / "source" / "large", size=48 << 20)
    config = write_config(
        place / "server", login, volumes={"all": place}, drives=1, cartridge_size="60MiB", early_warning="2MiB",
        extra="[limits]\nsessions = 12\n",
    )  # fmt: skip
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        host, _, port = server.address.rpartition(":")
        yield Options(
            host=host, port=int(port), user=login.user, password=login.password, tape_device="vtl0/drive0", write=True,
            filesystem=str(place / "source"), recover_to=str(place / "target"), sessions=20, shutdown_pid=server.pid,
            timeout_s=CHECK_LIMIT_S,
        )  # fmt: skip


def own_counts() -> dict[int, dict[str, int]]:
    """Our own server, with everything a run may use but a changer."""
    with tempfile.TemporaryDirectory(prefix="mover-conformance-") as name, _own_server(Path(name)) as options:
        report = run(options, say)
    return {version: report.counts(version) for version in VERSIONS}


def ndmjob_counts() -> dict[int, dict[str, int]]:
    """Debian's ndmjob with its tape simulator, a fresh one for each version."""
    counts = {}
    for version in NDMJOB_VERSIONS:
        with tempfile.TemporaryDirectory(prefix="mover-ndmjob-") as name:
            (Path(name) / "tape").touch()
            with ndmjob(peers.require("ndmjob"), Path(name)) as (address, _):
                host, _, port = address.rpartition(":")
                groups = tuple(each for each in GROUPS_BY_VERSION[version] if each not in NDMJOB_GROUPS_LEFT_OUT)
                options = Options(
                    host=host, port=int(port), user="ndmp", password="ndmp", versions=(version,), groups=groups,
                    tape_device="./tape", write=True, timeout_s=NDMJOB_TIMEOUT_S,
                )  # fmt: skip
                counts[version] = run(options, say).counts(version)
    return counts


def main() -> int:
    """Test a server of our own, and with --ndmjob ndmjob's daemon, and write the counts; exit 1 if ours fails."""
    parser = argparse.ArgumentParser(prog="scripts/conformance-docs", description=main.__doc__)
    parser.add_argument("--ndmjob", action="store_true", help="also run against ndmjob's daemon: some ten minutes")
    arguments = parser.parse_args()
    own = own_counts()
    write(OWN, own)
    if arguments.ndmjob:
        write(NDMJOB, ndmjob_counts())
    return 1 if any(counts[Result.FAIL.value] for counts in own.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
