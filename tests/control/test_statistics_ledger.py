"""Totals: exact at the end of whatever is counted, and never going back."""

from mover.admin.jobs import JobStatus
from mover.control.statistics_ledger import DriveFigures, Ledger
from mover.ring import Consumer, Producer, RingControl, TapeGauge
from mover.ring.layout import W_CONSUMER, W_PRODUCER, ConsumerWord, ProducerWord

S = 1_000_000_000


class Clock:
    now = 5 * S

    def __call__(self) -> int:
        return self.now


def test_a_ring_that_closes_between_two_looks_leaves_its_counters() -> None:
    ledger = Ledger(Clock())
    ring = RingControl(4096, 4)
    ledger.add_ring("data", 7, ring)
    ledger.attach_tape(ring, "vtl0/drive0", writes=True)
    with Producer(ring.duplicate()) as producer, Consumer(ring.duplicate()) as tape:
        tape.gauges[TapeGauge.BYTES_MOVED] = 1000
        tape.gauges[TapeGauge.DRIVE_BYTES] = 1024
        tape.gauges[TapeGauge.IO_NS] = 2 * S
        tape.gauges[TapeGauge.UNDERRUNS] = 3
        producer._words[W_PRODUCER + ProducerWord.WAITED_FULL_NS] = 4 * S
        producer._words[W_CONSUMER + ConsumerWord.WAITED_EMPTY_NS] = 5 * S
        before = ledger.totals({}, [])
        assert ledger.drive("vtl0/drive0") == DriveFigures(0, 1024, 2 * S, 3)
        tape.gauges[TapeGauge.BYTES_MOVED] = 2000
        tape.gauges[TapeGauge.DRIVE_BYTES] = 2048
    ring.close()
    after = ledger.totals({}, [])
    assert (before.mover_bytes, after.mover_bytes) == (1000, 2000)
    assert (after.ring_full_seconds, after.ring_empty_seconds) == (4.0, 5.0)
    assert ledger.drive("vtl0/drive0") == DriveFigures(0, 2048, 2 * S, 3)
    assert ledger.rings == []


def test_each_drive_of_a_ring_has_what_it_did() -> None:
    ledger = Ledger(Clock())
    ring = RingControl(4096, 4)
    ledger.add_ring("data", 7, ring)
    with Consumer(ring.duplicate()) as tape:
        ledger.attach_tape(ring, "first", writes=True)
        tape.gauges[TapeGauge.DRIVE_BYTES] = 10
        ledger.attach_tape(ring, "second", writes=True)
        tape.gauges[TapeGauge.DRIVE_BYTES] = 25
        ledger.add_drive("first", DriveFigures(read_bytes=4))
        assert ledger.drive("first") == DriveFigures(read_bytes=4, written_bytes=10)
        assert ledger.drive("second") == DriveFigures(written_bytes=15)
    ring.close()
    assert ledger.drive("first") == DriveFigures(read_bytes=4, written_bytes=10)
    assert ledger.drive("second") == DriveFigures(written_bytes=15)


def test_a_call_of_a_drive_that_ends_takes_nothing_back() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ring = RingControl(4096, 4)
    ledger.add_ring("data", 7, ring)
    ledger.attach_tape(ring, "drive", writes=False)
    with Producer(ring.duplicate()) as tape:
        tape.gauges[TapeGauge.IO_SINCE_NS] = clock.now - S
        assert ledger.drive("drive").io_ns == S
        tape.gauges[TapeGauge.IO_SINCE_NS] = 0
        assert ledger.drive("drive").io_ns == S
        tape.gauges[TapeGauge.IO_NS] = S + 1
        assert ledger.drive("drive").io_ns == S + 1
    ring.close()


def test_rings_have_names_of_their_own() -> None:
    ledger = Ledger(Clock())
    rings = [RingControl(4096, 4) for _ in range(3)]
    for kind, ring in zip(("data", "data", "history"), rings, strict=True):
        ledger.add_ring("data" if kind == "data" else "history", 7, ring)
    assert [each.name for each in ledger.rings] == ["data-7", "data-7-2", "history-7"]
    for ring in rings:
        ring.close()
    assert ledger.rings == []


def test_a_job_counts_while_it_runs_and_once_when_it_is_over() -> None:
    ledger = Ledger(Clock())
    job = JobStatus(
        number=1, session_id=7, operation="backup", backup_type="dump", path="/srv", started=0.0, stream_bytes=100,
        entries={"files": 3, "directories": 2}, history_entries=5, history_wait_seconds=0.25,
    )  # fmt: skip
    running = ledger.totals({}, [job])
    assert (running.data_bytes, running.files, running.history_entries, running.jobs) == (100, 5, 5, {})
    ledger.end_job(JobStatus(**{name: getattr(job, name) for name in job.__struct_fields__} | {"state": "failed"}))
    ended = ledger.totals({}, [])
    assert (ended.data_bytes, ended.files, ended.history_entries) == (100, 5, 5)
    assert ended.history_wait_seconds == 0.25
    assert ended.jobs == {"backup/failed": 1}


def test_processor_time_of_the_living_and_the_dead() -> None:
    ledger = Ledger(Clock())
    assert ledger.totals({"data": 1.5}, []).worker_cpu_seconds == {"data": 1.5, "relay": 0.0, "tape": 0.0}
    ledger.add_exit("data", "signal SIGKILL", 2.0)
    ledger.add_exit("data", "exit 0", 1.0)
    totals = ledger.totals({"tape": 0.5}, [])
    assert totals.worker_cpu_seconds == {"data": 3.0, "relay": 0.0, "tape": 0.5}
    assert totals.worker_exits == {"data/signal SIGKILL": 1, "data/exit 0": 1}
