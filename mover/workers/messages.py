"""Worker messages: one closed tagged union per direction, and the bounds of one message.

Control asks, a worker answers each request with exactly one reply, in order; events come by themselves at any
time. Descriptors travel beside a message, in the order that its docstring names. Numbers named ``error`` are
NDMP error codes (messages.md section 2), ``reason`` NDMP halt and pause reasons in version 4's values; a worker
room does not import the protocol, so they travel as integers. Paths and names are bytes.

The messages of one kind of worker stand in a module of their own. Here are those that any of them sends, and the
unions.
"""

from typing import Final

import msgspec.msgpack

from mover.workers import data_messages, device_messages, relay_messages, snapshot_messages, tape_messages
from mover.workers.message import Message

MESSAGE_BYTES_MAX: Final = 48 * 1024 * 1024  # holds the longest name list that an NDMP message can carry
DESCRIPTORS_MAX: Final = 8


class Done(Message, frozen=True):
    """The request is done, or accepted where its work follows."""


class Refused(Message, frozen=True):
    """The request is not done: NDMP error code and one line that names the thing and what to do."""

    error: int
    text: str


class LogLine(Message, frozen=True):
    """One line for the DMA (LOG_MESSAGE) and the log; log_type: NORMAL 0, DEBUG 1, ERROR 2, WARNING 3.

    cause: of a line that tells of a counted error, as in Cause; else "". path_bytes: with so many the text begins.
    """

    log_type: int
    text: bytes
    cause: str = ""
    path_bytes: int = 0


ToWorker = (
    tape_messages.Request
    | device_messages.Request
    | data_messages.Request
    | relay_messages.Request
    | snapshot_messages.Request
)
Reply = Done | Refused | tape_messages.Reply | device_messages.Reply | snapshot_messages.Reply
Event = LogLine | tape_messages.Event | data_messages.Event | relay_messages.Event
FromWorker = Reply | Event

to_worker_decoder: Final = msgspec.msgpack.Decoder(ToWorker)
from_worker_decoder: Final = msgspec.msgpack.Decoder(FromWorker)
encoder: Final = msgspec.msgpack.Encoder()
