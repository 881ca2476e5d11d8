"""The data ring as a backup stream is written into it: bytes in order, file content read straight into the slots.

A slot is filled to its end whatever its size; what does not fit simply continues in the next one. Reads are gathered:
pieces of one file that lie in one slot, with headers between them, become one ``preadv``. The small file loop of
:mod:`mover.data.backup_files` writes into ``slot`` at ``position`` by itself and puts the position back.
"""

import os
from typing import Final

from mover.ring import DataGauge, Kind, Producer

_PIECES_MAX: Final = 512  # of one preadv; the kernel takes 1,024
ZEROS: Final = bytes(1024)  # the largest unit that a format pads to, and more than any padding


class BackupStream:
    """Appends to the stream.

    Attributes:
        slot: the slot being filled.
        position: bytes of it that are filled.
        slot_start: stream offset of the slot's first byte.
        missing_bytes: of the reads since the caller set it to 0, filled with zeros because the file had ended.
        read_error: what made reading impossible since the caller set it to None; the rest is zeros.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.slot = producer.reserve()
        self.position = 0
        self.slot_start = 0
        self.missing_bytes = 0
        self.read_error: OSError | None = None
        self._pieces: list[memoryview] = []
        self._file = -1
        self._from = 0  # file offset of the first piece
        self._until = 0  # file offset behind the last one

    @property
    def offset(self) -> int:
        """Stream offset of the next byte."""
        return self.slot_start + self.position

    def next_slot(self) -> None:
        """Commit what the slot holds and take another one.

        Raises:
            RingClosed: nobody reads any more.
        """
        if self._pieces:
            self.complete_reads()
        producer = self._producer
        producer.commit(self.position)
        self.slot_start += self.position
        self.position = 0
        producer.gauges[DataGauge.STREAM_BYTES] = self.slot_start
        self.slot = producer.reserve()

    def write(self, data: bytes | bytearray) -> None:
        """Append bytes; one copy, they come from memory of our own."""
        room = len(self.slot) - self.position
        if len(data) <= room:
            end = self.position + len(data)
            self.slot[self.position : end] = data
            self.position = end
            return
        done = 0
        while done < len(data):
            if self.position == len(self.slot):
                self.next_slot()
            count = min(len(data) - done, len(self.slot) - self.position)
            self.slot[self.position : self.position + count] = data[done : done + count]
            self.position += count
            done += count

    def write_padded(self, data: bytes | bytearray, unit: int) -> None:
        """Append bytes and zeros up to the next multiple of ``unit``, at most 1024."""
        self.write(data)
        if len(data) % unit:
            self.write(ZEROS[: -len(data) % unit])

    def read(self, fd: int, offset: int, length: int) -> None:
        """Append file content; it is in place after :meth:`complete_reads` or a slot later."""
        pieces = self._pieces
        if pieces and (offset != self._until or len(pieces) >= _PIECES_MAX):
            self.complete_reads()
        if not pieces:
            self._file, self._from = fd, offset
        while length:
            if self.position == len(self.slot):
                self.next_slot()
                self._file, self._from = fd, offset
            count = min(length, len(self.slot) - self.position)
            pieces.append(self.slot[self.position : self.position + count])
            self.position += count
            offset += count
            length -= count
        self._until = offset

    def complete_reads(self) -> None:
        """Do the gathered reads; what the file does not give becomes zeros and is counted."""
        pieces, offset = self._pieces, self._from
        try:
            while pieces:
                try:
                    done = os.preadv(self._file, pieces, offset)
                except OSError as error:
                    self.read_error = error
                    done = 0
                if done == 0:
                    for piece in pieces:
                        piece[:] = bytes(len(piece))
                        self.missing_bytes += len(piece)
                    return
                offset += done
                while pieces and done >= len(pieces[0]):
                    done -= len(pieces.pop(0))
                if done:
                    pieces[0] = pieces[0][done:]
        finally:
            pieces.clear()

    def finish(self) -> None:
        """Commit the rest and the end of the stream."""
        if self.position:
            producer = self._producer
            producer.commit(self.position)
            self.slot_start += self.position
            self.position = 0
            producer.gauges[DataGauge.STREAM_BYTES] = self.slot_start
        self._producer.finish(Kind.END)
