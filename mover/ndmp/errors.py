"""Errors of the protocol core: the peer broke the protocol, or our caller broke the API."""

from typing import ClassVar

from mover.ndmp.enums import ErrorCode


class NdmpError(Exception):
    """Base of everything the core raises."""


class PeerError(NdmpError):
    """The peer broke the protocol; `error_code` is what it is told."""

    error_code: ClassVar[ErrorCode] = ErrorCode.UNDEFINED_ERR


class ApiError(NdmpError):
    """Our own caller asked for something that cannot be."""


class XdrDecodeError(PeerError):
    """Bytes that do not hold what they should."""

    error_code = ErrorCode.XDR_DECODE_ERR


class XdrEncodeError(ApiError):
    """A value that its field cannot carry."""


class FramingError(PeerError):
    """Record marking out of which nothing can be read any more; only closing helps."""


class IllegalStateError(PeerError):
    """An input that the present state does not take; nothing has changed."""

    error_code = ErrorCode.ILLEGAL_STATE_ERR


class NotInVersionError(ApiError):
    """A message that the session's version does not have."""
