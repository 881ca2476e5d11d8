"""Posts of file history: names go before nodes, posts fit their slots."""

from mover.data.backup_history import HistorySender
from mover.ring import Consumer, DataGauge, Producer, RingControl
from mover.workers.data_messages import HistoryPlan
from tests.data import fh_reader


def test_names_that_wait_are_sent_before_nodes_that_do_not() -> None:
    ring = RingControl(1024, 64)
    gauges = memoryview(bytearray(8 * 32)).cast("Q")
    with Producer(ring.duplicate()) as producer, Consumer(ring.duplicate()) as consumer:
        history = HistorySender(HistoryPlan(4, "dir"), producer, gauges)
        dir_entry, node_entry = history.encoder.dir_entry, history.encoder.node_entry
        history.add_dirs([dir_entry(b"name", 3, 2)])
        history.add_nodes([node_entry(3, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0)] * 30)
        history.add_nodes([node_entry(3, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0)])
        posts = []
        while (entry := consumer.try_peek()) is not None:
            posts.append((entry.kind, bytes(entry.view)))
            entry.view.release()
            consumer.release()
        history.flush()
        last = consumer.peek()
        assert fh_reader.elements(last.kind, bytes(last.view))
        last.view.release()
    kinds = [kind for kind, _ in posts]
    assert kinds == [fh_reader.ADD_DIR, *[fh_reader.ADD_NODE] * (len(kinds) - 1)]
    assert sum(len(fh_reader.elements(kind, body)) for kind, body in posts) == 31
    assert all(len(body) <= 1024 for _, body in posts)
    assert gauges[DataGauge.HISTORY_ENTRIES] == history.entries == 32
    ring.close()


def test_a_path_that_no_post_can_hold_is_left_out_and_counted() -> None:
    ring = RingControl(1024, 64)
    gauges = memoryview(bytearray(8 * 32)).cast("Q")
    with Producer(ring.duplicate()) as producer, Consumer(ring.duplicate()) as consumer:
        history = HistorySender(HistoryPlan(4, "file"), producer, gauges)
        file_entry = history.encoder.file_entry
        paths = [b"/first", b"/" + b"deep/" * 500, b"/last"]
        for path in paths:
            history.add_files([file_entry(path, 3, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0)])
        history.flush()
        bodies = b""
        while (entry := consumer.try_peek()) is not None:
            bodies += bytes(entry.view)
            entry.view.release()
            consumer.release()
    assert (history.entries, history.too_long) == (2, 1)
    assert b"first" in bodies
    assert b"deep" not in bodies
    assert b"last" in bodies
    ring.close()
