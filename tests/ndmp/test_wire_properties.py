"""Every request of every version through the server's core: whole, in any fragments, cut anywhere."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ndmp import edge, xdr
from mover.ndmp.enums import MessageCode
from mover.ndmp.header import Header
from mover.ndmp.messages import Body
from mover.ndmp.server import Request, ServerProtocol
from mover.ndmp.table import TABLE, VERSIONS, Kind
from tests.ndmp.strategies import bodies, oracle, structs

LAST = 0x8000_0000


def wire_of(version: int, code: int, body: type[Body]) -> type[Body]:
    conversion = edge.CONVERSIONS.get((version, code, body))
    return body if conversion is None else conversion.wire


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """Pieces of these lengths, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        length = lengths[turn % len(lengths)]
        pieces.append(data[at : at + length])
        at, turn = at + length, turn + 1
    return pieces


def marked(record: bytes, lengths: list[int]) -> bytes:
    """A record in fragments."""
    pieces = cut(record, lengths)
    return b"".join(
        struct.pack(">I", len(piece) | (LAST if index == len(pieces) - 1 else 0)) + piece
        for index, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pipeline_of_requests_reads_the_same_however_it_is_cut(version: int) -> None:
    rows = [
        row
        for (of, _), row in sorted(TABLE.items())
        if of == version and row.kind is not Kind.POST and row.code != MessageCode.CONNECT_OPEN
    ]
    one = st.one_of(
        [
            st.tuples(st.just(int(row.code)), structs(wire_of(version, row.code, row.request)))
            for row in rows
        ]
    )  # fmt: skip
    lengths = st.lists(st.integers(1, 60), min_size=1, max_size=8)

    @settings(max_examples=60, deadline=None)
    @given(requests=st.lists(one, min_size=1, max_size=5), fragments=lengths, segments=lengths)
    def check(requests: list[tuple[int, Body]], fragments: list[int], segments: list[int]) -> None:
        stream = b""
        expected = []
        for number, (code, wire) in enumerate(requests, 1):
            header = Header(number, 0, 0, code, 0, 0)
            stream += marked(header.encode() + oracle(wire), fragments)
            expected.append(
                Request(header, MessageCode(code), version, edge.decode_request(version, code, oracle(wire)))
            )
        protocol = ServerProtocol(version)
        protocol.authenticated = True
        seen = []
        for segment in cut(stream, segments):
            protocol.feed(segment)
            while (event := protocol.next_event()) is not None:
                seen.append(event)
        assert seen == expected
        assert not protocol.inside_record

    check()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_has_no_form_of_its_own_is_the_same_inside_and_on_the_wire(version: int) -> None:
    """Also by the quick ways that history has; every other body becomes its internal type."""
    for code, is_reply, internal in bodies(version):
        check_body(version, code, is_reply, internal)


def check_body(version: int, code: int, is_reply: bool, internal: type[Body]) -> None:
    own = (version, code, internal) in edge.CONVERSIONS
    decode = edge.decode_reply if is_reply else edge.decode_request

    @settings(max_examples=8, deadline=None)
    @given(wire=structs(wire_of(version, code, internal)))
    def check(wire: Body) -> None:
        body = decode(version, code, xdr.encode(wire))
        assert type(body) is internal
        if not own:
            assert body == wire
            assert xdr.encode(body) == oracle(wire)

    check()
