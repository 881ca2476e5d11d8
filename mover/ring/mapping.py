"""A mapped ring: its words, queues and slots as views, checked against the memory before they are believed."""

import mmap
import os
from typing import NamedTuple

from mover.ring.layout import (
    CONSUMER_NOTE,
    MAGIC,
    NOTE_BYTES,
    PAGE,
    PRODUCER_NOTE,
    QUEUE_ENTRY_BYTES,
    QUEUE_OFFSET,
    SLOT_BYTES_MAX,
    SLOTS_MAX,
    W_DATA_OFFSET,
    W_MAGIC,
    W_SLOT_BYTES,
    W_SLOTS,
    W_VERDICT,
    Verdict,
)


class RingFds(NamedTuple):
    """The descriptors of one ring, in the order in which they travel."""

    memory: int
    free: int
    filled: int


def data_offset(slots: int) -> int:
    """Where slot 0 of a ring of so many slots begins."""
    end = QUEUE_OFFSET + slots * (QUEUE_ENTRY_BYTES + 4)
    return (end + PAGE - 1) // PAGE * PAGE


class Mapping:
    """A mapped ring: its words, queues and slots, and the descriptors it came from (owned)."""

    def __init__(self, fds: RingFds, *, header_only: bool = False) -> None:
        self.fds = fds
        size = os.fstat(fds.memory).st_size
        if size < PAGE:
            raise ValueError(f"ring of {size} bytes: smaller than its header")
        self._views: list[memoryview] = []
        self._map = mmap.mmap(fds.memory, PAGE)
        self.words = self._view("Q")
        slot_bytes, slots = self.words[W_SLOT_BYTES], self.words[W_SLOTS]
        offset = self.words[W_DATA_OFFSET]
        if (
            self.words[W_MAGIC] != MAGIC
            or not 0 < slots <= SLOTS_MAX
            or not 0 < slot_bytes <= SLOT_BYTES_MAX
            or offset != data_offset(slots)
            or offset + slots * slot_bytes > size
        ):
            self.close_map()
            raise ValueError(f"not a ring: {slots} slots of {slot_bytes} bytes in {size} bytes")
        self.slot_bytes, self.slots = slot_bytes, slots
        if header_only:
            return
        self.close_map()
        self._map = mmap.mmap(fds.memory, size)
        self.words = self._view("Q", 0, PAGE)
        self.queue = self._view("I", QUEUE_OFFSET, slots * QUEUE_ENTRY_BYTES)
        self.freed = self._view("I", QUEUE_OFFSET + slots * QUEUE_ENTRY_BYTES, slots * 4)
        self.slot_views = [self._view("B", offset + slot * slot_bytes, slot_bytes) for slot in range(slots)]
        self.note_views = {where: self._view("B", where, NOTE_BYTES) for where in (PRODUCER_NOTE, CONSUMER_NOTE)}

    def _view(self, form: str, offset: int = 0, size: int = PAGE) -> memoryview:
        whole = memoryview(self._map)
        part = whole[offset : offset + size]
        self._views += [whole, part]
        if form == "B":
            return part
        cast = part.cast(form)  # type: ignore[call-overload]  # typeshed wants a literal
        self._views.append(cast)
        return cast  # type: ignore[no-any-return]  # follows from the line above

    def close_map(self) -> None:
        """Unmap; views that a caller still holds keep the memory until they go."""
        for view in reversed(self._views):
            try:
                view.release()
            except BufferError:
                continue  # a slice of it is still held: the garbage collector frees it with the slice
        self._views.clear()
        try:
            self._map.close()
        except BufferError:
            return  # the same: unmapped when the last view goes

    def close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def verdict(self) -> Verdict:
        return Verdict(self.words[W_VERDICT])
