"""What stored inputs cover: fuzz_coverage.py measure, or keep TARGET DIRECTORY.

measure prints the branches of each module that tests/corpus covers, as JSON. keep makes tests/corpus/TARGET anew: the
shortest inputs of the corpus and the directory that cover all that they cover; it prints how many.
"""

import importlib
import json
import linecache
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import coverage
import msgspec
from fuzz_report import Branch, ModuleCoverage

CHECKOUT: Final = Path(__file__).resolve().parent.parent
DISPATCH: Final = (
    "connection", "incoming", "outbox", "data_ports", "data_connection", "data_run", "data_service",
    "data_variables", "data_aftermath", "mover_run", "mover_service", "tape_service", "tape_cdb", "scsi_service",
    "scsi_bus", "local", "environment", "recover_names", "refusal", "volumes",
)  # fmt: skip
MEASURED: Final = (
    "mover/ndmp/*",
    "mover/control/handlers/*",
    "mover/control/version_1/*",
    *(f"mover/control/{name}.py" for name in DISPATCH),
)
"""The protocol and dispatch code."""


def start() -> coverage.Coverage:
    """A collector that sees also what runs at import."""
    include = [str(CHECKOUT / pattern) for pattern in MEASURED]
    collector = coverage.Coverage(branch=True, include=include, data_file=None, config_file=False)
    collector.start()
    return collector


def must_pass(data: bytes, failure: Exception | None) -> None:
    """Stored inputs pass."""
    if failure is not None:
        raise RuntimeError(f"{data.hex()} fails") from failure


def measure(collector: coverage.Coverage, targets: Any) -> None:
    """Replay everything that is stored; print the branches by module."""
    for target in targets.TARGETS:
        targets.run(target, [path.read_bytes() for path in targets.stored(target)], must_pass)
    collector.stop()
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        collector.json_report(outfile=out.name)
        document: dict[str, Any] = json.loads(Path(out.name).read_text())  # Any: another tool's document
    modules = {
        str((CHECKOUT / name).relative_to(CHECKOUT)): ModuleCoverage(
            branches=each["summary"]["num_branches"],
            covered=each["summary"]["covered_branches"],
            missing=[
                Branch(begin, end, linecache.getline(str(CHECKOUT / name), begin).strip())
                for begin, end in each["missing_branches"]
            ],
        )
        for name, each in sorted(document["files"].items())
    }
    print(msgspec.json.encode(modules).decode())


def keep(collector: coverage.Coverage, targets: Any, target: str, work: Path) -> None:
    """Reduce corpus and working directory to the inputs that matter."""
    covered: dict[str, set[object]] = {}
    kept: dict[str, bytes] = {}
    directory = targets.CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    found = {path.name: path.read_bytes() for folder in (directory, work) for path in folder.iterdir()}
    candidates = sorted(found.items(), key=lambda each: (len(each[1]), each[0]))
    names = {data: name for name, data in candidates}
    # Its own sets, by file: what it offers to callers goes through a database, which takes longer than most inputs.
    inside: Any = collector._collector  # Any: not public
    arcs_of: dict[str, set[object]] = inside.data

    def judge(data: bytes, failure: Exception | None) -> None:
        new = False
        for file, arcs in arcs_of.items():
            before = covered.setdefault(file, set())
            if not arcs <= before:
                before |= arcs
                new = True
            arcs.clear()
        if new and failure is None:
            kept[names[data]] = data

    for arcs in arcs_of.values():
        arcs.clear()
    targets.run(target, [data for _, data in candidates], judge)
    collector.stop()
    for path in directory.iterdir():
        path.unlink()
    for name, data in kept.items():
        (directory / name).write_bytes(data)
    print(len(kept))


def main() -> None:
    """Entry point."""
    collector = start()
    targets: Any = importlib.import_module("tests.fuzz.targets")  # Any: a module that is imported late on purpose
    if sys.argv[1] == "measure":
        measure(collector, targets)
    else:
        keep(collector, targets, sys.argv[2], Path(sys.argv[3]))


if __name__ == "__main__":
    main()
