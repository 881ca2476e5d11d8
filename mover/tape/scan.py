"""Walks a cartridge by its length words: the map of one that has no index, and where its last whole record ends."""

import os
from typing import Final

from mover.tape.tape_map import BAD_RECORD, CLASS_BITS, GOOD_RECORD, LENGTH_BITS, MARKS_MAX, TapeFile, TapeMap, extent

FILEMARK: Final = 0
ERASE_GAP: Final = 0xFFFFFFFE
END_OF_MEDIUM: Final = 0xFFFFFFFF
# A longer "record" is no record that any drive writes: the file is not a cartridge, or not whole, and not ours to cut.
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024


def scan(fd: int, size: int) -> tuple[TapeMap, str]:
    """The map of the ``size`` bytes, and how its last record is torn ("" when it is whole).

    The map ends before a torn record, or before what cannot be read (its ``damage``). A record is torn when the file
    ends inside it: writes only ever append, so nothing but a crash leaves that.

    Raises:
        OSError: the file cannot be read.
    """
    tape = TapeMap()
    torn = ""
    offset = 0
    head = os.pread(fd, 4, 0)
    run_offset, run_word, run_count = 0, 0, 0
    while len(head) == 4:
        word = int.from_bytes(head, "little")
        if word == run_word and run_count:
            end = offset + extent(word)
        else:
            if run_count:
                tape.last.append(run_offset, run_word, run_count)
                run_count = 0
            if word == FILEMARK and tape.marks == MARKS_MAX:
                tape.damage = f"more than {MARKS_MAX} filemarks, the last at byte {offset}"
                head = b""
                break
            if word in {FILEMARK, ERASE_GAP}:
                offset += 4
                if word == FILEMARK:
                    tape.files.append(TapeFile(offset))
                head = os.pread(fd, 4, offset)
                continue
            if word == END_OF_MEDIUM:
                head = b""
                break
            if word & CLASS_BITS not in {GOOD_RECORD, BAD_RECORD} or not 0 < word & LENGTH_BITS <= RECORD_BYTES_MAX:
                tape.damage = f"unknown marker or record length {word:#010x} at byte {offset}"
                head = b""
                break
            end = offset + extent(word)
            run_offset, run_word = offset, word
        if end > size:
            torn = f"the record at byte {offset} is torn"
            head = b""
            break
        both = os.pread(fd, 8, end - 4)
        if both[:4] != head:
            tape.damage = f"the length words of the record at byte {offset} differ"
            head = b""
            break
        run_count += 1
        offset = end
        head = both[4:]
    if run_count:
        tape.last.append(run_offset, run_word, run_count)
    if head:
        torn = f"the marker at byte {offset} is torn"
    tape.end = offset
    return tape, torn
