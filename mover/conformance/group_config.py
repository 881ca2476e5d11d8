"""Group config: what the server says about itself. Source: messages.md 5; extensions.md 2."""

from collections.abc import Iterator
from os import fsencode
from typing import Final

from mover.conformance.checks import Check, clause
from mover.conformance.extension_checks import extension_checks
from mover.conformance.results import NotOfferedError
from mover.conformance.session import Session, must
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, AuthType, ErrorCode, FsInfoUnsupported, TapeAttribute

ILLEGAL_ARGS: Final = ErrorCode.ILLEGAL_ARGS_ERR.name
AUTH_TYPES: Final = {1: {AuthType.NONE, AuthType.TEXT}, 2: set(AuthType), 3: set(AuthType), 4: set(AuthType)}
ADDR_TYPES: Final = {2: {0, 1}, 3: {0, 1, 2, 3, 0x2051_0004}, 4: {0, 1, 3, 0x2051_0004}}  # messages.md 3
FS_MASK: Final = sum(FsInfoUnsupported)
TAPE_MASK: Final = {3: sum(TapeAttribute) & ~TapeAttribute.RAW, 4: sum(TapeAttribute)}


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""

    def check(name: str, message: str, run: object, notes: str = "messages.md 5") -> Check:
        return Check(name, clause(version, f"CONFIG_{message}", notes), run)  # type: ignore[arg-type]  # a function below

    yield check("GET_HOST_INFO names the host", "GET_HOST_INFO", _host)
    if version < 3:
        yield check("GET_BUTYPE_ATTR of the backup type", "GET_BUTYPE_ATTR", _butype_attr)
        yield check("GET_BUTYPE_ATTR of an unknown type", "GET_BUTYPE_ATTR", _bogus_butype_attr)
    if version == 1:
        return
    if version == 2:
        yield check("GET_MOVER_TYPE lists known types", "GET_MOVER_TYPE", _connection_types)
    else:
        yield check("GET_CONNECTION_TYPE lists known types", "GET_CONNECTION_TYPE", _connection_types)
        yield check("GET_BUTYPE_INFO lists the backup type", "GET_BUTYPE_INFO", _butypes)
        yield check("GET_FS_INFO", "GET_FS_INFO", _filesystems)
        yield check("GET_TAPE_INFO", "GET_TAPE_INFO", _tapes)
        yield check("GET_SCSI_INFO", "GET_SCSI_INFO", _changers)
        yield check("GET_SERVER_INFO names product and login methods", "GET_SERVER_INFO", _server)
    yield check("GET_AUTH_ATTR of MD5 has a challenge", "GET_AUTH_ATTR", _challenge)
    if version == 4:
        yield from extension_checks(version)


def _host(session: Session) -> None:
    reply = session.ok(m.ConfigGetHostInfoRequest(), m.ConfigGetHostInfoReply)
    must(bool(reply.hostname), "a host name", "none")
    if session.version < 3:
        _auth_types(session, reply.auth_type)


def _auth_types(session: Session, types: tuple[int, ...]) -> None:
    known = AUTH_TYPES[session.version]
    must(bool(types) and set(types) <= known, f"login methods out of {sorted(map(int, known))}", list(types))


def _butype_attr(session: Session) -> None:
    answer = session.expect(
        m.ConfigGetButypeAttrRequest(fsencode(session.options.butype)), "NO_ERR", ILLEGAL_ARGS, "NOT_SUPPORTED_ERR"
    )
    if not answer.good:
        raise NotOfferedError(f"backup type {session.options.butype} is answered {answer.error}")


def _bogus_butype_attr(session: Session) -> None:
    session.expect_or_not_offered(m.ConfigGetButypeAttrRequest(b"bogus"), ILLEGAL_ARGS)


def _connection_types(session: Session) -> None:
    types = session.ok(m.ConfigGetConnectionTypeRequest(), m.ConfigGetConnectionTypeReply).addr_types
    must(bool(types) and set(types) <= ADDR_TYPES[session.version], "types of data connections", list(types))
    must(AddressType.TCP in types or AddressType.LOCAL in types, "TCP or LOCAL among them", list(types))


def _butypes(session: Session) -> None:
    reply = session.ask(m.ConfigGetButypeInfoRequest()).body
    if not isinstance(reply, m.ConfigGetButypeInfoReply) or reply.error:
        raise NotOfferedError("no backup types")
    names = [each.butype_name for each in reply.butype_info]
    must(len(set(names)) == len(names) and all(names), "each backup type once, with a name", names)
    if fsencode(session.options.butype) not in names:
        raise NotOfferedError(f"backup type {session.options.butype} is not listed")


def _filesystems(session: Session) -> None:
    answer = session.expect_or_not_offered(m.ConfigGetFsInfoRequest(), "NO_ERR")
    assert isinstance(answer.body, m.ConfigGetFsInfoReply)
    for each in answer.body.fs_info:
        must(not each.unsupported & ~FS_MASK, "known bits in the mask", f"{each.unsupported:#x}")
        must(bool(each.fs_logical_device), "a logical device", "none")


def _devices(devices: tuple[m.DeviceInfo, ...], mask: int) -> None:
    names = [name for device in devices for name in device.caplist]
    must(all(name.device for name in names), "device names", "an empty one")
    must(all(not name.attr & ~mask for name in names), "known attribute bits", [hex(name.attr) for name in names])


def _tapes(session: Session) -> None:
    answer = session.expect_or_not_offered(m.ConfigGetTapeInfoRequest(), "NO_ERR")
    assert isinstance(answer.body, m.ConfigGetTapeInfoReply)
    _devices(answer.body.tape_info, TAPE_MASK[session.version])


def _changers(session: Session) -> None:
    answer = session.expect_or_not_offered(m.ConfigGetScsiInfoRequest(), "NO_ERR")
    assert isinstance(answer.body, m.ConfigGetScsiInfoReply)
    _devices(answer.body.scsi_info, 1)


def _server(session: Session) -> None:
    reply = session.ok(m.ConfigGetServerInfoRequest(), m.ConfigGetServerInfoReply)
    must(bool(reply.vendor_name and reply.product_name), "vendor and product behind the login", "none")
    _auth_types(session, reply.auth_type)


def _challenge(session: Session) -> None:
    answer = session.expect_or_not_offered(m.ConfigGetAuthAttrRequest(AuthType.MD5), "NO_ERR", ILLEGAL_ARGS)
    if not answer.good:
        raise NotOfferedError("MD5 is not offered")
    assert isinstance(answer.body, m.ConfigGetAuthAttrReply)
    must(isinstance(answer.body.server_attr, m.AuthMd5Attr), "the arm of MD5", type(answer.body.server_attr).__name__)
