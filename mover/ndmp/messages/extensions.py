"""Messages of extension classes in the internal form. Source: NDMPv4 section 3.2 (extensions)."""

from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages.common import Pval
from mover.ndmp.xdr_types import U16, Body, Enum, String


class CabDataConnPrepareRequest(Body, frozen=True):
    """Which volume a data connection will be for (class 2052). Source: extensions.md 3.1.

    Clients in use call the first word a length that is always 1; the errors that are documented make it the type of the
    data connection's address.
    """

    addr_type: Enum  # AddressType
    butype: String
    env: tuple[Pval, ...]


class CabDataConnPrepareReply(Body, frozen=True):
    error: Enum = ErrorCode.NO_ERR


class TestEchoRequest(Body, frozen=True):
    """Asks for its own words (class 7ff0)."""

    __test__ = False  # no test, whatever its name

    echo_msg: String
    echo_short: U16 = 0  # version 2 of the class


class TestEchoReply(Body, frozen=True):
    __test__ = False

    error: Enum = ErrorCode.NO_ERR
    echo_msg: String = b""
    echo_short: U16 = 0


class TestEchoRequest1(Body, frozen=True):
    """Version 1 of the class."""

    __test__ = False

    echo_msg: String


class TestEchoReply1(Body, frozen=True):
    __test__ = False

    error: Enum
    echo_msg: String
