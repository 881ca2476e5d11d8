"""TLS in front of a connection: no word is said before the server's certificate is known."""

import socket
import ssl

from mover.conformance.results import NotReachedError
from mover.ndmp.secure import Tls, client_context, wrong_certificate


def secure(plain: socket.socket, host: str, tls: Tls) -> ssl.SSLSocket:
    """Shake hands within the socket's timeout and look at the certificate.

    Raises:
        NotReachedError: no TLS there, or another server than it should be.
    """
    try:
        secured = client_context(tls).wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise NotReachedError(f"its certificate is not trusted: {error.verify_message}") from error
    except TimeoutError:
        raise NotReachedError("no answer to the TLS handshake") from None
    except ssl.SSLError as error:
        why = "what is there does not speak TLS" if error.reason == "WRONG_VERSION_NUMBER" else str(error.reason)
        raise NotReachedError(f"no secure connection: {why}") from error
    except OSError as error:
        raise NotReachedError(f"no secure connection: {error.strerror or error}") from error
    if wrong := wrong_certificate(secured.getpeercert(binary_form=True) or b"", tls):
        secured.close()
        raise NotReachedError(wrong)
    return secured
