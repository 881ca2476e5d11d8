"""What a benchmark found: the numbers, their statistics, the table, and the machine they come from."""

import os
import platform
import statistics
from pathlib import Path

import msgspec
import psutil

PEER_SPREAD_MAX = 0.20


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A rate against a peer's, from interleaved pairs: mover, peer, mover, peer ..."""

    work: str
    peer: str
    bar: float
    """Least median of the ratios."""
    unit: str
    mover: list[float]
    peers: list[float]
    undisturbed: bool
    """Whether the machine was idle before every pair and nothing was stolen from it."""
    attempts: int

    @property
    def ratios(self) -> list[float]:
        """Mover's rate divided by the peer's, pair by pair."""
        return [ours / theirs for ours, theirs in zip(self.mover, self.peers, strict=True)]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.ratios)

    @property
    def peer_spread(self) -> float:
        """How far the peer itself varies: its range, as part of its median."""
        return (max(self.peers) - min(self.peers)) / statistics.median(self.peers)

    @property
    def steady(self) -> bool:
        """Whether the figures may be believed."""
        return self.undisturbed and self.peer_spread <= PEER_SPREAD_MAX

    def row(self) -> list[str]:
        """Its row of the table."""
        ours, theirs = statistics.median(self.mover), statistics.median(self.peers)
        measured = f"{self.median:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        seen = f"{ours:,.0f} against {theirs:,.0f} {self.unit}; peer varies {self.peer_spread:.0%}"
        if not self.undisturbed:
            seen += "; machine not idle"
        return [
            f"{self.work}, against {self.peer}",
            f"&ge; {self.bar}",
            measured,
            seen,
            verdict(self.median >= self.bar),
        ]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that must not exceed its bar."""

    work: str
    bar: float
    unit: str
    value: float
    seen: str

    def row(self) -> list[str]:
        """Its row of the table."""
        bar, value = f"&le; {self.bar:.1f} {self.unit}", f"{self.value:.1f} {self.unit}"
        return [self.work, bar, value, self.seen, verdict(self.value <= self.bar)]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a benchmark."""

    date: str
    commit: str
    conditions: dict[str, str]
    ratios: list[Ratio]
    limits: list[Limit]

    def table(self) -> str:
        """The whole run as Markdown."""
        named = "\n".join(f"- {name}: {value}" for name, value in self.conditions.items())
        tables = "\n\n".join(markdown(rows) for rows in self.tables())
        return f"Run of {self.date}, commit {self.commit}.\n\n{tables}\n\n{named}"

    def tables(self) -> list[list[list[str]]]:
        """Its tables, each as rows of cells with the heading first."""
        rows = [["work", "bar", "median (range)", "seen", "verdict"]]
        rows += [ratio.row() for ratio in self.ratios]
        rows += [limit.row() for limit in self.limits]
        return [rows]


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is its heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def verdict(reached: bool) -> str:
    """One word for the last column."""
    return "reached" if reached else "**missed**"


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / (1 << 30)
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_compiler()})",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()


def store(name: str, report: Report, directory: Path) -> None:
    """Writes a benchmark's report into performance.json, and its table into performance.md between its two markers.

    What the other benchmarks stored there stays.
    """
    record = directory / "performance.json"
    reports = msgspec.json.decode(record.read_bytes(), type=dict[str, msgspec.Raw])
    reports[name] = msgspec.Raw(msgspec.json.encode(report))
    page = directory / "performance.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place for the table: {begin} ... {end}")
    record.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    page.write_text(f"{before}{begin}\n{report.table()}\n{end}{after}")
