"""What load.py found: reply times of each server, beside the ratios and limits of a benchmark."""

import statistics
from collections import Counter
from collections.abc import Sequence

import msgspec
from bench_measure import percentile
from bench_report import Report
from load_client import Result


class Footprint(msgspec.Struct, frozen=True):
    """What a server is while its connections stand."""

    processes: int
    private_mb: float
    cpu_s: float


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """One server under the load; times are in milliseconds, from when a request was due."""

    server: str
    runs: int
    connections: int
    connect_s: float
    """Until all were logged in, one after the other; the median of the runs."""
    requests: int
    errors: dict[str, int]
    median: float
    percentile_99: float
    percentile_99_by_run: list[float]
    longest: float
    late: float
    """The 99th percentile of how late the client itself sent; it is in the times."""
    client_cores: float
    processes: int
    private_mb: float
    cores: float
    """Of the server's processes that answer, not of those that stream."""

    def row(self) -> list[str]:
        """Its row of the table."""
        wrong = ", ".join(f"{number:,} {what}" for what, number in self.errors.items())
        return [
            self.server,
            f"{self.requests:,}",
            f"{self.median:.2f}",
            f"{self.percentile_99:.2f}",
            f"{self.longest:.1f}",
            wrong or "none",
            f"{self.late:.2f}",
            f"{self.client_cores:.1%}",
            f"{self.cores:.1%}",
            f"{self.processes:,}",
            f"{self.private_mb:.0f}",
            f"{self.connect_s:.1f}",
        ]


HEADING = [
    "server", "requests", "median, ms", "99th percentile, ms", "max, ms", "errors", "client late, 99th percentile, ms",
    "client, of a core", "server, of a core", "its processes", "their own memory, MB", "all logged in after, s",
]  # fmt: skip


class Run(msgspec.Struct, frozen=True):
    """One load on one server."""

    seconds: int
    connections: int
    connect_s: float
    result: Result
    footprint: Footprint


def answers(server: str, runs: Sequence[Run]) -> Answers:
    """The runs of one server together."""
    replies = [reply * 1e3 for run in runs for reply in run.result.replies_s]
    if not replies:
        raise RuntimeError(f"{server}: no request was answered ({dict(_errors(runs))})")
    seconds = sum(run.seconds for run in runs)
    return Answers(
        server=server,
        runs=len(runs),
        connections=runs[0].connections,
        connect_s=statistics.median(run.connect_s for run in runs),
        requests=sum(run.result.requests for run in runs),
        errors=dict(_errors(runs)),
        median=statistics.median(replies),
        percentile_99=percentile(replies, 0.99),
        percentile_99_by_run=[percentile(run.result.replies_s, 0.99) * 1e3 for run in runs if run.result.replies_s],
        longest=max(replies),
        late=percentile([late * 1e3 for run in runs for late in run.result.late_s], 0.99),
        client_cores=sum(run.result.cpu_s for run in runs) / seconds,
        processes=max(run.footprint.processes for run in runs),
        private_mb=max(run.footprint.private_mb for run in runs),
        cores=sum(run.footprint.cpu_s for run in runs) / seconds,
    )


def _errors(runs: Sequence[Run]) -> Counter[str]:
    return sum((Counter(run.result.errors) for run in runs), Counter())


class LoadReport(Report, frozen=True, kw_only=True):
    """One run of load.py."""

    answers: list[Answers]

    def tables(self) -> list[list[list[str]]]:
        """The bars, and every server's reply times."""
        return [*super().tables(), [HEADING, *(each.row() for each in self.answers)]]
