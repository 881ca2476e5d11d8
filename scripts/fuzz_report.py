"""What fuzzing has reached: executions so far, branches that the stored corpus covers, and the page that tells."""

import datetime
from pathlib import Path
from typing import Final, Self

import msgspec
from fuzz_unreached import NOT_YET, REASONS

EXECUTIONS_WANTED: Final = 10_000_000
SESSIONS_WANTED: Final = 2_000_000
BRANCHES_WANTED: Final = 0.95
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"


class TargetTotal(msgspec.Struct, frozen=True):
    """Of one target, over all runs; `requests` are those that the scripts of the connection target sent."""

    executions: int = 0
    requests: int = 0
    seconds: int = 0
    finds: int = 0


class Branch(msgspec.Struct, frozen=True):
    """One that is not taken: from a line to a line; a negative one is the end of what begins there."""

    begin: int
    end: int
    text: str  # of the first line


class ModuleCoverage(msgspec.Struct, frozen=True):
    """Branches of one module."""

    branches: int
    covered: int
    missing: list[Branch]


class Record(msgspec.Struct, frozen=True):
    """All that is stored."""

    date: str = ""
    machine: dict[str, str] = {}
    targets: dict[str, TargetTotal] = {}
    modules: dict[str, ModuleCoverage] = {}

    def plus(self, target: str, more: TargetTotal, machine: dict[str, str]) -> Self:
        """With one more run of a target."""
        before = self.targets.get(target, TargetTotal())
        total = TargetTotal(
            before.executions + more.executions,
            before.requests + more.requests,
            before.seconds + more.seconds,
            before.finds + more.finds,
        )
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return msgspec.structs.replace(
            self, date=today, machine=machine, targets=dict(sorted({**self.targets, target: total}.items()))
        )

    def with_coverage(self, modules: dict[str, ModuleCoverage]) -> Self:
        """With what the corpus reaches now."""
        return msgspec.structs.replace(self, modules=modules)

    def table(self) -> str:
        """All of it as Markdown."""
        lines = ["| target | executions | requests sent | hours | finds |", "| --- | --- | --- | --- | --- |"]
        for name, total in self.targets.items():
            requests = f"{total.requests:,}" if total.requests else ""
            hours = f"{total.seconds / 3600:.1f}"
            lines.append(f"| {name} | {total.executions:,} | {requests} | {hours} | {total.finds} |")
        lines += [f"| all | {self._executions():,} | | | |", "", f"As of {self.date}:", "", *self._bars(), ""]
        lines += ["Not covered:", "", "| line to line | what stands there | why not |", "| --- | --- | --- |"]
        for name, module in self.modules.items():
            for branch in module.missing:
                text = branch.text.replace("|", "\\|")
                why = REASONS.get((name, branch.text), NOT_YET)
                lines.append(f"| {name} {branch.begin} to {branch.end} | `{text}` | {why} |")
        return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in self.machine.items())])

    def _executions(self, beginning: str = "") -> int:
        return sum(total.executions for name, total in self.targets.items() if name.startswith(beginning))

    def _bars(self) -> list[str]:
        """What is wanted, and whether it is reached."""
        branches = sum(module.branches for module in self.modules.values())
        covered = sum(module.covered for module in self.modules.values())
        rows = [
            ("executions", EXECUTIONS_WANTED, self._executions()),
            ("executions on a connection that is opened and logged in", SESSIONS_WANTED, self._executions("session")),
        ]
        lines = ["| bar | wanted | reached | |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {what} | {wanted:,} | {reached:,} | {_verdict(reached >= wanted)} |" for what, wanted, reached in rows
        ]
        share = covered / branches if branches else 0.0
        lines.append(
            f"| branches of the protocol and dispatch code that the stored corpus covers | {BRANCHES_WANTED:.0%} "
            f"| {share:.1%} ({covered} of {branches}) | {_verdict(share >= BRANCHES_WANTED)} |"
        )
        return lines


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def load(directory: Path) -> Record:
    """What was stored, or nothing yet."""
    path = directory / "protocol-tests.json"
    return msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else Record()


def store(record: Record, directory: Path) -> None:
    """Writes protocol-tests.json, and the table into protocol-tests.md between its two markers."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    (directory / "protocol-tests.json").write_bytes(text + b"\n")
    page = directory / "protocol-tests.md"
    before, found, rest = page.read_text().partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{page} has no place for the table: {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n{record.table()}\n{END}{after}")
