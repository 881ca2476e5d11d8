"""TLS in front of a control connection, the client's side: no word is said before the certificate is known."""

import contextlib
import ssl

import trio

from mover.dma.errors import ControlConnectionError
from mover.dma.options import Server
from mover.ndmp.secure import Tls, client_context, wrong_certificate


async def secure(stream: trio.SocketStream, server: Server, tls: Tls) -> trio.SSLStream[trio.SocketStream]:
    """Shake hands and look at the certificate.

    Raises:
        ControlConnectionError: no TLS there, or another server than it should be; the connection is closed.
    """
    try:
        context = await trio.to_thread.run_sync(_context, tls)
        secured = trio.SSLStream(stream, context, server_hostname=server.host, https_compatible=True)
        await secured.do_handshake()
        if wrong := wrong_certificate(secured.getpeercert(binary_form=True) or b"", tls):
            raise ValueError(wrong)
    except BaseException as error:
        with contextlib.suppress(trio.BrokenResourceError):
            await trio.aclose_forcefully(stream)
        if isinstance(error, (trio.BrokenResourceError, OSError, ValueError)):
            raise ControlConnectionError(f"no secure connection to {server}: {_reason(error)}") from error
        raise
    return secured


def _context(tls: Tls) -> ssl.SSLContext:
    """Raises ValueError: the authority's file cannot be used."""
    try:
        return client_context(tls)
    except OSError as error:
        raise ValueError(f"{tls.ca}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        trust = "name its authority (--ca), or itself (--fingerprint, as mover version shows it there)"
        return f"its certificate is not trusted: {cause.verify_message}; {trust}"
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "what is there does not speak TLS; secure ports are others than the plain ones"
    if isinstance(cause, ssl.SSLError):
        return str(cause.reason or cause.strerror or "TLS").replace("_", " ").lower()
    if isinstance(cause, OSError):
        return str(cause.strerror or cause)
    return str(cause) or "the connection ended in the handshake"
