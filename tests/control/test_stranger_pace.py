"""How many lines strangers get, and that all others are counted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mover.control.stranger_pace import OF_ALL_MAX, OF_ONE_MAX, OTHERS, PERIOD_S, StrangerPace


def test_one_source_gets_so_many_lines_a_period() -> None:
    pace = StrangerPace()
    assert [pace.admits("a", 5.0) for _ in range(OF_ONE_MAX + 3)] == [True] * OF_ONE_MAX + [False] * 3
    assert pace.admits("b", 6.0)
    assert pace.over(5.0 + PERIOD_S - 0.1) == {}
    assert pace.over(5.0 + PERIOD_S) == {"a": 3}
    assert pace.over(5.0 + PERIOD_S) == {}
    assert pace.admits("a", 5.0 + PERIOD_S)


def test_many_sources_get_so_many_together() -> None:
    pace = StrangerPace()
    admitted = sum(pace.admits(str(number), 0.0) for number in range(10_000))
    assert admitted == OF_ALL_MAX
    assert not pace.admits("0", 1.0)
    assert pace.close() == {OTHERS: 10_000 - OF_ALL_MAX, "0": 1}
    assert pace.close() == {}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 30)), max_size=400))
def test_none_is_lost(knocks: list[tuple[int, float]]) -> None:
    pace, now, lines, counted = StrangerPace(), 0.0, 0, 0
    for source, later in knocks:
        now += later
        counted += sum(pace.over(now).values())
        lines += pace.admits(str(source), now)
        assert len(pace._written) + len(pace._rest) <= 2 * OF_ALL_MAX + 1
    assert lines + counted + sum(pace.close().values()) == len(knocks)
