"""What is left of an operation: from the worker's gauges, and from the rate at which it goes."""

import itertools

import pytest

from mover.control.estimate import (
    Figures,
    Rate,
    backup_bytes_remain,
    recover_bytes_remain,
    stream_length,
)
from mover.ring import DataPhase

MIB = 1 << 20


def figures(phase: DataPhase, processed: int = 0, **more: int) -> Figures:
    return Figures(phase, processed, **more)


@pytest.mark.parametrize("butype", ["dump", "tar"])
def test_nothing_is_said_before_anything_is_known(butype: str) -> None:
    assert backup_bytes_remain(butype, figures(DataPhase.IDLE)) is None
    assert backup_bytes_remain(butype, figures(DataPhase.SCAN, total_entries=1000)) is None
    assert backup_bytes_remain(butype, figures(DataPhase.DIRECTORIES, 5000, total_entries=10, directories=3)) is None
    assert backup_bytes_remain(butype, figures(DataPhase.FILES, 5000, total_entries=10)) is None


def test_what_the_worker_expects_counts_until_objects_are_done() -> None:
    assert backup_bytes_remain("dump", figures(DataPhase.SCAN, total_bytes=MIB)) == MIB
    assert backup_bytes_remain("dump", figures(DataPhase.DIRECTORIES, 1000, total_bytes=MIB)) == MIB - 1000
    assert backup_bytes_remain("dump", figures(DataPhase.DIRECTORIES, 2 * MIB, total_bytes=MIB)) == 0


def test_objects_that_are_left_are_taken_for_average() -> None:
    done = figures(DataPhase.FILES, 50_000, total_entries=120, directories=20, files=10, file_bytes=10 * 4096)
    assert backup_bytes_remain("dump", done) == 90 * (4096 + 1024)
    assert backup_bytes_remain("tar", done) == 90 * (10 * 4096 // 30 + 1536)


@pytest.mark.parametrize("butype", ["dump", "tar"])
@pytest.mark.parametrize("expected", [0, 100_000, 2_000_000, 50_000_000])
def test_it_goes_down_to_zero_whatever_was_expected(butype: str, expected: int) -> None:
    """A hundred equal files in ten directories; what was expected may be far off."""
    head = 1024 if butype == "dump" else 1536
    told = []
    for files in range(1, 101):
        processed = 10 * head + files * (10_000 + head)
        directories = 10 if butype == "dump" else (files + 9) // 10
        more = {"total_entries": 110, "directories": directories, "files": files, "file_bytes": files * 10_000}
        remain = backup_bytes_remain(butype, Figures(DataPhase.FILES, processed, total_bytes=expected, **more))
        assert remain is not None
        told.append(remain)
    assert min(told) == told[-1] == 0
    # It falls over every stretch; where a first estimate proves too low it is corrected once.
    assert sum(after > before for before, after in itertools.pairwise(told)) <= (1 if butype == "dump" else 12)
    half = 50 * (10_000 + head)
    if expected in {0, 2_000_000} and butype == "dump":
        assert half * 0.5 < told[49] < half * 2
    assert backup_bytes_remain(butype, figures(DataPhase.FINISH, total_bytes=expected)) == 0


def test_what_could_not_be_read_is_not_waited_for() -> None:
    done = figures(DataPhase.FILES, 9000, total_entries=11, directories=1, files=8, errors=2, file_bytes=80)
    assert backup_bytes_remain("dump", done) == 0
    more_errors = done._replace(errors=50)
    assert backup_bytes_remain("dump", more_errors) == 0


def test_a_recover_knows_by_the_length_of_its_stream() -> None:
    assert recover_bytes_remain(0, figures(DataPhase.FILES, 10)) is None
    assert recover_bytes_remain(1000, figures(DataPhase.FILES, 10)) == 990
    assert recover_bytes_remain(1000, figures(DataPhase.FILES, 2000)) == 0
    assert recover_bytes_remain(0, figures(DataPhase.FINISH, 10)) == 0


@pytest.mark.parametrize(
    ("env", "length"),
    [
        ([], 0),
        ([(b"MOVER_STREAM_BYTES", b"1000")], 1000),
        ([(b"MOVER_STREAM_BYTES", b"1000"), (b"DIRECT", b"n")], 1000),
        ([(b"MOVER_STREAM_BYTES", b"1000"), (b"DIRECT", b"Y")], 0),
        ([(b"MOVER_STREAM_BYTES", b"-1")], 0),
        ([(b"MOVER_STREAM_BYTES", b"\xb2")], 0),
        ([(b"MOVER_STREAM_BYTES", b"9" * 5000)], 0),
    ],
)
def test_the_length_that_an_environment_tells(env: list[tuple[bytes, bytes]], length: int) -> None:
    assert stream_length(env) == length


def test_the_rate_is_that_of_the_last_minute() -> None:
    rate = Rate(100.0)
    assert rate.seconds_for(0, 100.0, 0) == 0
    assert rate.seconds_for(10, 100.0, 0) is None
    # A minute of nothing, then a thousand bytes a second.
    for second in range(60):
        rate.sample(100.0 + second, 0)
    for second in range(61):
        rate.sample(160.0 + second, 1000 * second)
    assert rate.seconds_for(5000, 220.0, 60_000) == 5
    # Stood still for a minute: nobody knows.
    for second in range(61):
        rate.sample(220.0 + second, 60_000)
    assert rate.seconds_for(5000, 280.0, 60_000) is None
    assert rate.seconds_for(1 << 62, 281.0, 60_001) == 0xFFFF_FFFF


def test_samples_are_bounded() -> None:
    rate = Rate(0.0)
    for count in range(100_000):
        rate.sample(count / 100, count)
    assert len(rate._samples) < 70
