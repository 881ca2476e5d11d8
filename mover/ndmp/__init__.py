"""The NDMP protocol without any I/O: bytes in, typed messages out; typed messages in, bytes out.

The door, module by module (import from the modules: this package imports nothing, so that a data worker can
have `mover.ndmp.history` alone):

`enums`: every number of the protocol; internal values are version 4's.
`messages`: one frozen struct per request, reply and post, the same for every version (`TapeOpenRequest`,
  `TapeOpenReply`, `NotifyDataHaltedPost`). All fields of a reply have defaults, so that
  `TapeOpenReply(error=ErrorCode.IO_ERR)` is a complete reply.
`server.ServerProtocol(offered_version=4, *, clock=time.time, record_limit=...)`, the server's end:
  - `connected(text) -> bytes` (greeting, first of all), `refuse(text) -> bytes` (instead of it),
    `shutdown(text) -> bytes`;
  - `feed(data)`, then `next_event() -> Request | Answered | Discarded | None` until None (needs more bytes).
    Decoding is lazy: answer a `Request`, and set `authenticated`, before asking for the next event.
    `Answered` is sent as `answer(answered)` (CONNECT_OPEN, header errors); `Discarded` is for the log.
    Raises `errors.FramingError`: close the connection;
  - `Request(header, code, version, body)`; CONNECT_CLOSE comes as a Request and has no reply;
  - `reply(request, body) -> bytes`; `reply_error(request, error) -> bytes` (error in the body, all else empty);
    `refuse_request(request, error) -> bytes` (error in the header, no body);
  - `post(body) -> bytes`; `post_raw(code, body) -> bytes` (mark and header only; send [prefix, body]);
  - attributes `version`, `negotiated`, `authenticated`, `last_sequence` (for associated_message_sequence).
`client.ClientProtocol(*, clock=time.time, record_limit=...)`, the DMA's end:
  - `feed(data)`, `next_event() -> Reply | Post | Discarded | None`; `request(body) -> (sequence, bytes)`;
  - `Reply(header, sequence, request, error, body)`: error is the header's or else the body's; body is None
    with a header error. `Post(header, code, version, body)`;
  - `offered_version` comes with the greeting; `version` follows it until a ConnectOpenRequest is accepted.
`table.TABLE[version, code] -> Row(name, kind, request, reply, needs_authentication)`.
  `ROWS` adds those of extensions, by the version of their class.
`extensions.Negotiation()`: what GET_EXT_LIST and SET_EXT_LIST do; `layout_version(...)`: of a message's class.
`states`: `SessionMachines(version)` holds `data: DataMachine` and `mover: MoverMachine` over literal transition
  tables. `machine.can(input)`, `audit(input)` raises `errors.IllegalStateError`, `apply(input) -> bool` moves and
  says whether the state changed (so that a halt is posted once). LISTEN, CONNECT and v1's and v2's START go through
  `audit_data/apply_data/audit_mover/apply_mover(input, local=...)`, which join the two; `audit_start(mode)`.
`window`: checks of record size, window, listen, continue and read; each returns an ErrorCode.
`auth`: `new_challenge()`, `md5_digest(challenge, password)`, `verify_text(...)`, `verify_md5(...)`.
`history.HistoryEncoder(version)`: XDR bytes of single file history entries, fast.
`dialogue.DialogueLog(interfaces)`: the lines of a protocol log; `describe(version, record, ...)`: one message decoded.
`reference`: errors and sources of each message, for docs/protocol.md.
`nlist.recover_target(version, name)`: where an nlist entry is to be recovered to.
`errors`: PeerError, ApiError and what is under them. `xdr`, `framing`, `header`, `edge`: the layers beneath.
"""

__all__ = [
    "auth",
    "client",
    "dialogue",
    "edge",
    "enums",
    "errors",
    "extensions",
    "framing",
    "header",
    "history",
    "messages",
    "nlist",
    "reference",
    "server",
    "states",
    "table",
    "window",
    "xdr",
]
