"""What goes out: the order of replies and posts when the DMA does not read."""

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from mover.control.outbox import Outbox, log_post
from mover.ndmp.enums import LogType, MessageCode
from mover.ndmp.header import decode_header
from mover.ndmp.messages import MoverGetStateReply, MoverGetStateRequest, NotifyDataHaltedPost
from mover.ndmp.server import Request, ServerProtocol
from mover.workers.messages import LogLine
from tests.fuzz.fakes import ControlStream


async def test_nothing_comes_between_the_posts_of_one_event() -> None:
    stream, protocol = ControlStream(), ServerProtocol()
    outbox = Outbox(stream, protocol, structlog.get_logger(), lambda: None)  # type: ignore[arg-type]  # a stand-in
    request = Request(
        decode_header(bytes.fromhex("00000007 00000000 00000000 00000a00 00000000 00000000")),
        MessageCode.MOVER_GET_STATE, 4, MoverGetStateRequest(),
    )  # fmt: skip

    def reply() -> list[bytes | memoryview]:
        return [protocol.reply(request, MoverGetStateReply())]

    stream.read_on(False)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.post, log_post(LogType.ERROR, "why"), NotifyDataHaltedPost(4, b""))
            await wait_all_tasks_blocked()
            nursery.start_soon(outbox.send, reply)
            await wait_all_tasks_blocked()
            stream.read_on(True)
    headers = [decode_header(sent[4:]) for sent in stream.sent]
    assert [(header.message, header.sequence) for header in headers] == [
        (MessageCode.LOG_MESSAGE, 1), (MessageCode.NOTIFY_DATA_HALTED, 2), (MessageCode.MOVER_GET_STATE, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (b"/v/a\nb: left out", b"/v/a\\nb: left out"),
        (b"\x1b]0;x\x07\x00\x7f\r\t", rb"\x1b]0;x\x07\x00\x7f\r" + b"\t"),
        ("\u0085\u009b\u2028".encode(), b"\\x85\\x9b\xe2\x80\xa8"),
        (b"name \xff \xc3\xa4 \xc2", b"name \xff \xc3\xa4 \xc2"),  # as it is, whatever the encoding
        (b"\n" * 8192, rb"\n" * 4096 + b"..."),
    ],
)
def test_a_name_in_a_log_message_cannot_look_like_a_line(text: bytes, entry: bytes) -> None:
    assert log_post(LogType.ERROR, text).entry == entry


async def test_our_own_log_says_what_kind_of_line_it_is() -> None:
    with capture_logs() as logs, trio.fail_after(30):
        outbox = Outbox(ControlStream(), ServerProtocol(), structlog.get_logger(), lambda: None)  # type: ignore[arg-type]  # a stand-in
        for number in (0, 2, 3, 9):
            await outbox.log_line(LogLine(number, b"/v/a: left out"))
    assert [entry["type"] for entry in logs] == ["normal", "error", "warning", "9"]
