"""TLS in front of a connection: no word is said before the server's certificate is known."""

import hashlib
import hmac
import socket
import ssl

from mover.conformance.options import Tls
from mover.conformance.results import NotReachedError


def secure(plain: socket.socket, host: str, tls: Tls) -> ssl.SSLSocket:
    """Shake hands within the socket's timeout and look at the certificate.

    Raises:
        NotReachedError: no TLS there, or another server than it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.fingerprints and not tls.ca:  # the certificate itself is known, whoever signed it
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        secured = context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise NotReachedError(f"its certificate is not trusted: {error.verify_message}") from error
    except TimeoutError:
        raise NotReachedError("no answer to the TLS handshake") from None
    except ssl.SSLError as error:
        why = "what is there does not speak TLS" if error.reason == "WRONG_VERSION_NUMBER" else str(error.reason)
        raise NotReachedError(f"no secure connection: {why}") from error
    except OSError as error:
        raise NotReachedError(f"no secure connection: {error.strerror or error}") from error
    shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    if tls.fingerprints and not any(hmac.compare_digest(shown, wanted) for wanted in tls.fingerprints):
        secured.close()
        raise NotReachedError(f"its certificate has the fingerprint {shown}, which is not the one expected")
    return secured
