"""Fast decoding of the two hot posts, FH_ADD_DIR and FH_ADD_NODE of versions 3 and 4, at the DMA.

They take what every server sends, one UNIX name or one set of attributes per element, and give None for anything
else, also for bytes that are wrong: then the codec decodes, or says what is wrong. Both agree, property-tested.
"""

import struct
from collections.abc import Callable
from typing import Final

from mover.ndmp.enums import FsType
from mover.ndmp.messages import Body, Dir, FhAddDirPost, FhAddNodePost, FileStat, Node, UnixName
from mover.ndmp.xdr_types import STRING_MAX

_COUNT = struct.Struct(">I")
_NAME = struct.Struct(">IiI")  # names, fs_type, length of the path
_DIR_TAIL = struct.Struct(">QQ")  # node, parent
# stats, unsupported, fs_type, ftype, 3 times, owner, group, fattr, size, links, node, fh_info
_NODE = struct.Struct(">IIiiIIIIIIQIQQ")


def _decode_dirs(data: bytes, offset: int) -> FhAddDirPost | None:
    name_at, tail_at, unix = _NAME.unpack_from, _DIR_TAIL.unpack_from, int(FsType.UNIX)
    dirs = []
    try:
        (count,) = _COUNT.unpack_from(data, offset)
        offset += 4
        if count * (_NAME.size + _DIR_TAIL.size) > len(data) - offset:
            return None
        for _ in range(count):
            names, fs_type, length = name_at(data, offset)
            if names != 1 or fs_type != unix or length > STRING_MAX:
                return None
            offset += 12
            path = data[offset : offset + length]
            offset += length + 3 & ~3
            node, parent = tail_at(data, offset)
            offset += 16
            dirs.append(Dir((UnixName(path),), node, parent))
    except struct.error:
        return None
    return FhAddDirPost(tuple(dirs))


def _decode_nodes(data: bytes, offset: int) -> FhAddNodePost | None:
    if len(data) < offset + 4:
        return None
    (count,) = _COUNT.unpack_from(data, offset)
    start = offset + 4
    end = start + count * _NODE.size
    if end > len(data):
        return None
    nodes = []
    for (
        stats, unsupported, fs_type, ftype, mtime, atime, ctime, owner, group, fattr, size, links, node, fh_info,
    ) in _NODE.iter_unpack(memoryview(data)[start:end]):  # fmt: skip
        if stats != 1:
            return None
        stat = FileStat(unsupported, fs_type, ftype, mtime, atime, ctime, owner, group, fattr, size, links)
        nodes.append(Node((stat,), node, fh_info))
    return FhAddNodePost(tuple(nodes))


FAST: Final[dict[type[Body], Callable[[bytes, int], Body | None]]] = {
    FhAddDirPost: _decode_dirs,
    FhAddNodePost: _decode_nodes,
}
"""Internal type -> its fast decoder, in versions whose wire form is the internal one."""
