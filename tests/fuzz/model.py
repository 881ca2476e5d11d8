"""What a DMA may be told: the model that the bytes of the server are held against while a script is played."""

import struct
from typing import ClassVar, Final

from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.enums import HIGHEST_VERSION, DataState, ErrorCode, MessageCode, MoverState
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header, decode_header
from mover.ndmp.table import class_of

STATES: Final = {MessageCode.DATA_GET_STATE, MessageCode.MOVER_GET_STATE}
DEVICES: Final = {0x02, 0x03}
"""SCSI and TAPE requests."""


class Broken(AssertionError):  # noqa: N818 - what the fuzzer looks for
    """Something that must hold did not."""


class Dialogue:
    """What the DMA has asked, and what it may be told: the model that the server's bytes are held against.

    Attributes:
        requests_sent: by all scripts so far.
    """

    requests_sent: ClassVar[int] = 0

    def __init__(self) -> None:
        self.version = HIGHEST_VERSION
        self.sequence = 0
        self.asked: dict[int, tuple[int, int]] = {}  # outstanding: sequence -> version, code
        self.exact = True  # no bytes were sent that are not whole requests of ours
        self.closed = False
        self._server_sequence = 0
        self._data_lives = False
        self._mover_lives = False
        self._paused = False

    def request(self, code: int, body: bytes) -> bytes:
        """The bytes of a request, which is now outstanding."""
        self.sequence += 1
        Dialogue.requests_sent += 1
        if code == MessageCode.CONNECT_CLOSE:
            self.closed = True
        elif not self.closed and code >> 8 not in {5, 6, 7}:
            self.asked[self.sequence] = self.version, code
        return mark(SIZE + len(body)) + Header(self.sequence, 0, 0, code, 0, 0).encode() + body

    def take(self, message: bytes) -> None:
        """Judge one message of the server. The greeting is read in the version of the session, in all alike."""
        (length,) = struct.unpack_from(">I", message)
        if length != 0x8000_0000 | len(message) - 4:
            raise Broken(f"a mark of {length:#x} on {len(message) - 4} bytes")
        header = decode_header(message[4:])
        self._server_sequence += 1
        if header.sequence != self._server_sequence:
            raise Broken(f"sequence {header.sequence} where {self._server_sequence} is due")
        if not self.exact:
            return
        if header.message_type == 1:
            self._take_reply(header, message)
        else:
            self._take_post(header, message)

    def _take_reply(self, header: Header, message: bytes) -> None:
        if header.reply_sequence not in self.asked:
            raise Broken(f"a reply to {header.reply_sequence}, which is not outstanding")
        first = next(iter(self.asked))
        if first != header.reply_sequence and not self._may_overtake(header):
            raise Broken(f"{header.reply_sequence} is answered before {first}")
        version, code = self.asked.pop(header.reply_sequence)
        if code != header.message:
            raise Broken(f"{header.message:#x} answers {code:#x}")
        if header.error != ErrorCode.NO_ERR:
            if len(message) != 4 + SIZE:
                raise Broken("a reply with an error in its header has a body")
            return
        # a later version of the extension has more behind what the first one has
        body = edge.decode_reply(1 if class_of(code) else version, code, message, 4 + SIZE)
        if version < 4 and getattr(body, "error", 0) > ErrorCode.CONNECT_ERR:
            raise Broken(f"error {body} in version {version}")
        self._follow(body)

    def _may_overtake(self, header: Header) -> bool:
        """A question for a state does not wait for a device."""
        before = [code for sequence, (_, code) in self.asked.items() if sequence < header.reply_sequence]
        return header.message in STATES and before[0] >> 8 in DEVICES and all(code in STATES for code in before[1:])

    def _follow(self, reply: m.Body) -> None:
        if getattr(reply, "error", 0) != ErrorCode.NO_ERR:
            return
        match reply:
            case m.DataListenReply() | m.DataConnectReply() | m.DataStartBackupReply() | m.DataStartRecoverReply():
                self._data_lives = True
            case m.DataStartRecoverFilehistReply():
                self._data_lives = True
            case m.MoverListenReply() | m.MoverConnectReply():
                self._mover_lives, self._paused = True, False
            case m.MoverContinueReply():
                self._paused = False
            case m.DataStopReply():
                self._expect(not self._data_lives, "STOP of a DATA that was not told halted")
            case m.MoverStopReply():
                self._expect(not self._mover_lives, "STOP of a MOVER that was not told halted")
            case m.DataGetStateReply(state=state):
                self._expect(self._data_lives or state in {DataState.IDLE, DataState.HALTED}, f"DATA {state}")
                self._expect(not self._data_lives or state != DataState.IDLE, f"DATA {state}")
            case m.MoverGetStateReply(state=state):
                self._expect(self._mover_lives or state in {MoverState.IDLE, MoverState.HALTED}, f"MOVER {state}")
                self._expect(not self._mover_lives or state != MoverState.IDLE, f"MOVER {state}")
            case _:
                pass

    def _take_post(self, header: Header, message: bytes) -> None:
        if header.error or header.reply_sequence:
            raise Broken(f"a post with {header}")
        body = edge.decode_request(self.version, header.message, message, 4 + SIZE)
        match body:
            case m.NotifyDataHaltedPost():
                self._expect(self._data_lives, "DATA halted twice")
                self._data_lives = False
            case m.NotifyMoverHaltedPost():
                self._expect(self._mover_lives, "MOVER halted twice")
                self._mover_lives = False
            case m.NotifyMoverPausedPost():
                self._expect(self._mover_lives and not self._paused, "MOVER paused out of turn")
                self._paused = True
            case _:
                pass

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise Broken(what)
