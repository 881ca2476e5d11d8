"""/metrics: the names, what they are made of, and what Prometheus' own tools make of them."""

import re
import subprocess

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mover.admin.statistics import Rates, RingRow, Totals
from mover.control.web.metrics import Exposition, RingPlaces, is_stalled
from tests.support.moments import HOSTILE, MIB, drives, hostile, jobs, moment
from tests.support.peers import require

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
CONTRACT = {
    "mover_sessions", "mover_data_bytes_total", "mover_mover_bytes_total", "mover_files_total",
    "mover_file_history_entries_total", "mover_file_history_wait_seconds_total", "mover_ring_fill_ratio",
    "mover_ring_wait_seconds_total", "mover_worker_cpu_seconds_total", "mover_worker_resident_bytes",
    "mover_worker_exits_total", "mover_tape_read_bytes_total", "mover_tape_written_bytes_total",
    "mover_tape_io_time_seconds_total", "mover_tape_underruns_total", "mover_authentication_failures_total",
    "mover_jobs_total", "mover_build_info",
}  # fmt: skip
OWN = {
    "mover_tape_errors_total",
    "mover_jobs_running",
    "mover_jobs_stalled",
    "mover_tape_hung",
    "mover_statistics_cpu_seconds_total",
}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def scraped(**changes: object) -> Samples:
    body, _ = Exposition().render(moment(**changes), "")
    return samples(body.decode())


def ring(name: str) -> RingRow:
    kind, _, session = name.rpartition("-")
    return RingRow(
        name=name, kind="history" if kind == "history" else "data", session_id=int(session), size_bytes=8 * MIB
    )


def one(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_the_names_are_the_contracts() -> None:
    assert {name for name, _ in scraped()} == CONTRACT | OWN


def test_the_labels_are_the_contracts() -> None:
    labels: dict[str, set[str]] = {}
    for name, pairs in scraped():
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    assert {name: found for name, found in labels.items() if found} == {
        "mover_ring_fill_ratio": {"ring"},
        "mover_ring_wait_seconds_total": {"side"},
        "mover_worker_cpu_seconds_total": {"kind"},
        "mover_worker_resident_bytes": {"kind"},
        "mover_worker_exits_total": {"kind", "reason"},
        "mover_tape_read_bytes_total": {"device"},
        "mover_tape_written_bytes_total": {"device"},
        "mover_tape_io_time_seconds_total": {"device"},
        "mover_tape_underruns_total": {"device"},
        "mover_tape_errors_total": {"device"},
        "mover_tape_hung": {"device"},
        "mover_jobs_total": {"operation", "result"},
        "mover_jobs_running": {"operation"},
        "mover_build_info": {"version"},
    }


def test_each_value_is_where_it_belongs() -> None:
    first, *others = drives()
    found = scraped(drives=[replace(first, read_bytes=4096, errors=5), *others])
    assert one(found, "mover_sessions") == 4
    assert one(found, "mover_data_bytes_total") == 3 << 30
    assert one(found, "mover_mover_bytes_total") == 2 << 30
    assert one(found, "mover_files_total") == 1234
    assert one(found, "mover_file_history_entries_total") == 1200
    assert one(found, "mover_file_history_wait_seconds_total") == 1.5
    assert one(found, "mover_ring_wait_seconds_total", side="full") == 2.5
    assert one(found, "mover_ring_wait_seconds_total", side="empty") == 0.5
    assert one(found, "mover_ring_fill_ratio", ring="data_1") == 0.875
    assert one(found, "mover_ring_fill_ratio", ring="history_1") == 0.01
    assert one(found, "mover_worker_cpu_seconds_total", kind="data") == 4.5
    assert one(found, "mover_worker_cpu_seconds_total", kind="relay") == 0
    assert one(found, "mover_worker_cpu_seconds_total", kind="control") == 12.34
    assert one(found, "mover_worker_resident_bytes", kind="data") == 90 * MIB
    assert one(found, "mover_worker_resident_bytes", kind="tape") == 33 * MIB
    assert one(found, "mover_worker_exits_total", kind="tape", reason="signal SIGKILL") == 1
    assert one(found, "mover_worker_exits_total", kind="relay", reason="exit 3") == 0
    assert one(found, "mover_tape_read_bytes_total", device="vtl0/drive0") == 4096
    assert one(found, "mover_tape_written_bytes_total", device="vtl0/drive0") == 3_000 * MIB
    assert one(found, "mover_tape_io_time_seconds_total", device="vtl0/drive0") == 61
    assert one(found, "mover_tape_underruns_total", device="vtl0/drive0") == 2
    assert one(found, "mover_tape_errors_total", device="vtl0/drive0") == 5
    assert one(found, "mover_tape_hung", device="vtl0/drive0") == 0
    assert one(found, "mover_tape_hung", device="nst0") == 1
    assert one(found, "mover_authentication_failures_total") == 7
    assert one(found, "mover_jobs_total", operation="backup", result="successful") == 1
    assert one(found, "mover_jobs_total", operation="recover", result="failed") == 2
    assert one(found, "mover_jobs_total", operation="backup", result="aborted") == 0
    assert one(found, "mover_jobs_running", operation="backup") == 1
    assert one(found, "mover_jobs_running", operation="recover-filehist") == 0
    assert one(found, "mover_build_info", version="0.1.0") == 1
    assert one(found, "mover_statistics_cpu_seconds_total") == 8


def test_what_strangers_name_is_in_no_label() -> None:
    body, _ = Exposition().render(hostile(), "")
    assert "/v/" in HOSTILE
    assert b"/v/" not in body


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    body, content_type = Exposition().render(moment(), OPENMETRICS)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    parsed = list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]  # the package's types leave it out
    assert {sample.name for family in parsed for sample in family.samples} == CONTRACT | OWN
    body, content_type = Exposition().render(moment(), "*/*")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert re.match(rb"# HELP mover_build_info \S", body)


@pytest.mark.parametrize("version", ["abc", "", "9.9.9", "1.0.0-\x01", "1" * 10_000])
def test_a_version_that_is_none_is_ours(version: str) -> None:
    _, content_type = Exposition().render(moment(), f"application/openmetrics-text;version={version};escaping=x")
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    _, content_type = Exposition().render(moment(), f"text/plain;version={version}")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_a_server_that_does_nothing_has_every_series_that_cannot_be_foretold_later() -> None:
    idle = {name for name, _ in scraped(totals=Totals(), jobs=[], rings=[], processes=[])}
    assert idle == (CONTRACT | OWN) - {"mover_ring_fill_ratio"}


def test_rings_keep_their_places_and_leave_them_to_others() -> None:
    places = RingPlaces()
    assert places.names([ring("data-7"), ring("data-9"), ring("history-9")]) == {
        "data-7": "data_1", "data-9": "data_2", "history-9": "history_1",
    }  # fmt: skip
    assert places.names([ring("data-11"), ring("data-9")]) == {"data-9": "data_2", "data-11": "data_1"}
    assert places.names([]) == {}
    assert places.names([ring("data-2000")]) == {"data-2000": "data_1"}


@pytest.mark.parametrize(
    ("changes", "stalled"),
    [
        ({"rate": Rates(), "entries_rate": Rates()}, True),
        ({"rate": Rates(), "entries_rate": Rates(over_60=0.1)}, False),
        ({"rate": Rates(over_60=0.1)}, False),
        ({"rate": Rates(), "phase": "scan"}, False),
        ({"rate": Rates(), "elapsed_seconds": 59.0}, False),
        ({"rate": Rates(), "entries_rate": Rates(), "operation": "mover-read", "phase": "", "number": None}, True),
    ],
)
def test_a_stalled_job(changes: dict[str, object], stalled: bool) -> None:
    assert is_stalled(replace(jobs()[0], **changes)) is stalled


@pytest.mark.peer("promtool")
def test_promtool_finds_nothing_to_say() -> None:
    body, _ = Exposition().render(moment(), "")
    result = subprocess.run(
        [require("promtool"), "check", "metrics"], input=body, capture_output=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
