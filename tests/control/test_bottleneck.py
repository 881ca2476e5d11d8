"""What the time of a job went to: each cause by itself, shares that exclude each other, meters on a real ring."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.admin.statistics import WaitCause
from mover.control.bottleneck import Counters, Meter, Side, shares
from mover.ring import Consumer, DataGauge, DataPhase, Producer, RelayGauge, RingControl, TapeGauge
from mover.ring.layout import W_CONSUMER, W_PRODUCER, ProducerWord

S = 1_000_000_000
SIDES: list[tuple[Side, Side]] = [
    ("files", "tape"), ("files", "relay"), ("relay", "tape"), ("tape", "files"), ("relay", "files"), ("tape", "relay"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sides", "spent", "expected"),
    [
        # A local backup.
        (("files", "tape"), Counters(10, scan=10, empty=10), {"scan": 10}),
        (("files", "tape"), Counters(10, stream=10, full=8, tape=9), {"tape": 8}),
        (("files", "tape"), Counters(10, stream=10, full=9, tape=2), {"tape": 2, "ring-full": 7}),
        (("files", "tape"), Counters(10, scan=2, stream=7, empty=9), {"scan": 2, "read": 7}),
        (("files", "tape"), Counters(10, stream=9, history=6, empty=9), {"file-history": 6, "read": 3}),
        (("files", "tape"), Counters(10, empty=4), {"ring-empty": 4}),
        # The file server of a three-way backup: the peer does not take it, or the network does not bring it there.
        (("files", "relay"), Counters(10, stream=10, full=9, socket=9, peer_full=9), {"tape": 9}),
        (("files", "relay"), Counters(10, stream=10, full=9, socket=9), {"network": 9}),
        (("files", "relay"), Counters(10, stream=10, full=9, socket=4, peer_full=1),
         {"tape": 1, "network": 3, "ring-full": 5}),
        # Its tape host.
        (("relay", "tape"), Counters(10, empty=8, socket=9), {"network": 8}),
        (("relay", "tape"), Counters(10, full=7, tape=8, socket=2), {"tape": 7}),
        # Recovers: local, at the file server, at the tape host.
        (("tape", "files"), Counters(10, stream=10, empty=8, tape=9), {"tape": 8}),
        (("tape", "files"), Counters(10, stream=10, full=8, tape=1), {"ring-full": 8}),
        (("relay", "files"), Counters(10, stream=10, empty=8, socket=9), {"network": 8}),
        (("tape", "relay"), Counters(10, full=8, socket=8), {"network": 8}),
        (("tape", "relay"), Counters(10, full=8, socket=8, peer_full=8), {"ring-full": 8}),
        (("tape", "relay"), Counters(10, empty=8, tape=8), {"tape": 8}),
        # File history of a recover keeps its consumer from taking more.
        (("tape", "files"), Counters(10, stream=10, full=8, history=8), {"file-history": 8}),
    ],
)  # fmt: skip
def test_who_is_slow(sides: tuple[Side, Side], spent: Counters, expected: dict[WaitCause, int]) -> None:
    assert shares(*sides, spent) == expected


nanoseconds = st.integers(0, 1000)


@given(st.sampled_from(SIDES), st.builds(Counters, *[nanoseconds] * len(Counters._fields)))
def test_shares_exclude_each_other(sides: tuple[Side, Side], spent: Counters) -> None:
    found = shares(*sides, spent)
    assert sum(found.values()) <= spent.elapsed
    assert all(each > 0 for each in found.values())


class Clock:
    now = 1000 * S

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def ring() -> Iterator[RingControl]:
    control = RingControl(4096, 4)
    yield control
    control.close()


def test_a_meter_counts_from_where_it_begins(ring: RingControl) -> None:
    clock = Clock()
    with Producer(ring.duplicate()) as files, Consumer(ring.duplicate()) as tape:
        tape.gauges[TapeGauge.IO_NS] = 7 * S  # of an operation before this one
        meter = Meter(ring, "files", "tape", clock=clock)
        assert (meter.seconds(), meter.elapsed_s, meter.bottleneck()) == ({}, 0, "ring-empty")
        # Two seconds of scan, one of them in a phase that is not over.
        clock.now += 2 * S
        files.gauges[DataGauge.PHASE_NS + DataPhase.SCAN] = 1 * S
        files.gauges[DataGauge.PHASE] = DataPhase.CHANGES
        files.gauges[DataGauge.PHASE_SINCE_NS] = clock.now - 1 * S
        assert (meter.seconds(), meter.bottleneck()) == ({"scan": 2.0}, "scan")
        # Then the drive is what is waited for.
        for _ in range(3):
            meter.look()
        files.gauges[DataGauge.PHASE_NS + DataPhase.CHANGES] = 1 * S
        files.gauges[DataGauge.PHASE] = DataPhase.FILES
        files.gauges[DataGauge.PHASE_SINCE_NS] = clock.now
        clock.now += 4 * S
        tape.gauges[TapeGauge.IO_NS] = 9 * S
        tape.gauges[TapeGauge.IO_SINCE_NS] = clock.now - 2 * S
        files._words[W_PRODUCER + ProducerWord.WAITED_FULL_NS] = 3 * S
        assert (meter.seconds(), meter.bottleneck()) == ({"scan": 2.0, "tape": 3.0}, "tape")
        meter.end()
    clock.now += 60 * S
    ring.close()
    assert (meter.seconds(), meter.elapsed_s) == ({"scan": 2.0, "tape": 3.0}, 6)


def test_what_waits_now_is_not_what_waited_before(ring: RingControl) -> None:
    clock = Clock()
    with Producer(ring.duplicate()) as relay, Consumer(ring.duplicate()) as tape:
        meter = Meter(ring, "relay", "tape", clock=clock)
        clock.now += 60 * S
        tape.gauges[TapeGauge.IO_NS] = 60 * S
        relay._words[W_PRODUCER + ProducerWord.WAITED_FULL_NS] = 60 * S
        for _ in range(3):
            meter.look()
        clock.now += 1 * S
        relay.gauges[RelayGauge.SOCKET_SINCE_NS] = clock.now - 1 * S
        relay._words[W_CONSUMER + ProducerWord.WAITED_FULL_NS] = 1 * S
        assert meter.bottleneck() == "network"
        assert meter.seconds() == {"tape": 60.0, "network": 1.0}


def test_the_rest_of_the_file_history_is_waited_for_behind_the_last_word(ring: RingControl) -> None:
    clock = Clock()
    meter = Meter(ring, "files", "tape", clock=clock)
    clock.now += 3 * S
    meter.history_tail_ns += 2 * S
    assert meter.seconds() == {"file-history": 2.0}
