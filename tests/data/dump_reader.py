"""Reads dump streams for tests, straight from the table in the format's description and apart from mover.data.

It is strict where other readers are lenient: every header's place and sum, order of records, fill to the tape block.
"""

import struct
from typing import NamedTuple

RECORD = 1024
TAPE, INODE, BITS, ADDR, END, CLRI = 1, 2, 3, 4, 5, 6


class Object(NamedTuple):
    """An inode of the stream."""

    inumber: int
    offset: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    times: tuple[int, int, int]  # nanoseconds: access, modification, change
    device: int
    data: bytes  # holes as zeros
    holes: list[int]  # records that are holes
    blobs: list[tuple[int, bytes]]  # kind of extension, content


class Dump(NamedTuple):
    """A whole stream."""

    tape: bytes
    used: set[int]
    dumped: set[int]
    objects: dict[int, Object]
    order: list[int]
    left_out: list[int]  # as the END headers name them

    def listing(self, inumber: int) -> list[tuple[bytes, int, int]]:
        """(name, inumber, type) of a directory's entries."""
        data = self.objects[inumber].data
        entries = []
        for chunk in range(0, len(data), RECORD):
            at = chunk
            while at < chunk + RECORD:
                number, length, kind, name_length = struct.unpack_from("<IHBB", data, at)
                assert length % 4 == 0
                assert at + length <= chunk + RECORD
                assert data[at + 8 + name_length] == 0
                entries.append((data[at + 8 : at + 8 + name_length], number, kind))
                at += length
            assert at == chunk + RECORD
        return entries

    def tree(self) -> dict[bytes, int]:
        """Path relative to the root -> inumber, b"" = the root; directories that were not dumped have no contents."""
        found = {b"": 2}
        pending = [(b"", 2, 2)]
        while pending:
            path, inumber, parent = pending.pop()
            entries = self.listing(inumber)
            assert [(name, number) for name, number, _ in entries[:2]] == [(b".", inumber), (b"..", parent)]
            for name, number, kind in entries[2:]:
                below = path + b"/" + name if path else name
                found[below] = number
                if kind == 4 and number in self.objects:
                    pending.append((below, number, inumber))
        return found


def parse(stream: bytes) -> Dump:
    """The stream's objects; every rule that the format gives a writer is asserted."""
    assert len(stream) % (10 * RECORD) == 0
    at = 0

    def header() -> bytes:
        nonlocal at
        record = stream[at : at + RECORD]
        assert sum(struct.unpack("<256I", record)) % 2**32 == 84446, f"sum at {at}"
        assert struct.unpack_from("<I", record, 16)[0] == at // RECORD % 2**32, f"c_tapea at {at}"
        assert struct.unpack_from("<I", record, 24)[0] == 60012
        assert struct.unpack_from("<i", record, 12)[0] == 1
        assert struct.unpack_from("<I", record, 888)[0] & 2
        at += RECORD
        return record

    def take(records: int) -> bytes:
        nonlocal at
        data = stream[at : at + records * RECORD]
        assert len(data) == records * RECORD
        at += len(data)
        return data

    tape = header()
    assert struct.unpack_from("<I", tape)[0] == TAPE
    assert struct.unpack_from("<I", tape, 888)[0] == 3
    assert tape[160:676] == bytes(516)
    maps = []
    for kind in (CLRI, BITS):
        record = header()
        assert struct.unpack_from("<I", record)[0] == kind
        bits = take(struct.unpack_from("<i", record, 160)[0])
        maps.append(
            {8 * byte + bit + 1 for byte, value in enumerate(bits) if value for bit in range(8) if value >> bit & 1}
        )
        limit = len(bits) * 8
    objects: dict[int, Object] = {}
    order: list[int] = []
    while True:
        offset = at
        record = header()
        (kind,) = struct.unpack_from("<I", record)
        if kind == END:
            break
        assert kind == INODE, (kind, offset)
        (inumber,) = struct.unpack_from("<I", record, 20)
        mode, nlink, _, _, size, a_s, a_us, m_s, m_us, c_s, c_us = struct.unpack_from("<HhHHQ6I", record, 32)
        (device,) = struct.unpack_from("<I", record, 72)
        uid, gid, low, high = struct.unpack_from("<4I", record, 144)
        assert record[904:912] == b"moverns1"
        (flags,) = struct.unpack_from("<I", record, 888)
        (extension,) = struct.unpack_from("<I", record, 900)
        (count,) = struct.unpack_from("<i", record, 160)
        if flags & 0x8000:
            previous = objects[order[-1]]
            assert (inumber, mode, uid) == (previous.inumber, previous.mode, previous.uid)
            assert record[164 : 164 + count] == b"\1" * count
            assert count == -(-size // RECORD)
            previous.blobs.append((extension, take(count)[:size]))
            assert extension != 3 or size <= 4096
            continue
        assert inumber in maps[1]
        assert inumber in maps[0]
        assert inumber not in objects
        assert inumber < limit
        data = bytearray()
        holes: list[int] = []
        while True:
            assert 0 <= count <= 512
            for place in range(count):
                if record[164 + place]:
                    data += take(1)
                else:
                    holes.append(len(data) // RECORD)
                    data += bytes(RECORD)
            assert record[164 + count : 676] == bytes(512 - count)
            if struct.unpack_from("<I", stream, at)[0] != ADDR:
                break
            assert count == 512
            record = header()
            assert struct.unpack_from("<I", record, 20)[0] == inumber
            (count,) = struct.unpack_from("<i", record, 160)
        assert len(data) == (0 if not size else -(-size // RECORD) * RECORD), (inumber, size, len(data))
        assert not any(data[size:])
        times = tuple(
            ((((high >> shift & 0xFF) ^ 0x80) - 0x80 << 32) + seconds) * 10**9 + micro * 1000 + (low >> place & 0x3FF)
            for seconds, micro, shift, place in ((a_s, a_us, 0, 0), (m_s, m_us, 8, 10), (c_s, c_us, 16, 20))
        )
        assert len(times) == 3
        objects[inumber] = Object(
            inumber, offset, mode, nlink, uid, gid, size, times, device, bytes(data[:size]), holes, []
        )
        order.append(inumber)
    left_out: list[int] = []
    while True:
        assert struct.unpack_from("<I", record)[0] == END
        assert record[160:164] == bytes(4)
        if any(record[164:676]):
            mark, total, earlier, *numbers = struct.unpack_from("<8sII124I", record, 164)
            assert (mark, earlier) == (b"moverlo1", len(left_out))
            named = [number for number in numbers if number]
            assert numbers[: len(named)] == named
            left_out += named
            assert total >= len(left_out)
        if at == len(stream):
            break
        record = header()
    directories = [number for number in order if objects[number].mode >> 12 == 4]
    others = [number for number in order if objects[number].mode >> 12 != 4]
    assert order == directories + others
    assert others == sorted(others)
    return Dump(tape, maps[0], maps[1], objects, order, left_out)
