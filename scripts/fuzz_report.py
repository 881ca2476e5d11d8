"""What fuzzing has reached: executions so far, branches that the stored corpus covers, and the page that tells."""

import datetime
from pathlib import Path
from typing import Self

import msgspec

BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"


class TargetTotal(msgspec.Struct, frozen=True):
    """Of one target, over all runs; `requests` are those that the scripts of the connection target sent."""

    executions: int = 0
    requests: int = 0
    seconds: int = 0
    finds: int = 0


class ModuleCoverage(msgspec.Struct, frozen=True):
    """Branches of one module; `missing` as "12 to 14", a negative line is the end of what begins there."""

    branches: int
    covered: int
    missing: list[str]


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
        every = sum(total.executions for total in self.targets.values())
        branches = sum(module.branches for module in self.modules.values())
        covered = sum(module.covered for module in self.modules.values())
        share = f"{covered} of {branches} branches ({covered / branches:.1%})" if branches else "no branches yet"
        lines += [
            f"| all | {every:,} | | | |",
            "",
            f"As of {self.date}. The stored corpus covers {share} of the protocol and dispatch code. Not covered:",
            "",
            "| module | branches | covered | left out: from line to line |",
            "| --- | --- | --- | --- |",
        ]
        for name, module in self.modules.items():
            if module.missing:
                part = f"{module.covered / module.branches:.0%}"
                lines.append(f"| {name} | {module.branches} | {part} | {', '.join(module.missing)} |")
        return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in self.machine.items())])


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
