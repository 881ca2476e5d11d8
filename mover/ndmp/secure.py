"""How a client of a secure port knows the server: what TLS is asked for, and whose certificate will do.

Source: extensions.md, section 6.
"""

import hashlib
import hmac
import ssl

import msgspec


class Tls(msgspec.Struct, frozen=True):
    """How a server proves on a secure connection who it is.

    Attributes:
        ca: a PEM file of authorities; "" = those of the system.
        fingerprints: SHA-256 in small hexadecimal digits; the certificate has one of them. () = the authorities say.
    """

    ca: str = ""
    fingerprints: tuple[str, ...] = ()


def client_context(tls: Tls) -> ssl.SSLContext:
    """What a handshake begins with; reads the authorities. Raises OSError: they cannot be used."""
    context = ssl.create_default_context(cafile=tls.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.fingerprints and not tls.ca:  # the certificate itself is known, whoever signed it
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def wrong_certificate(certificate: bytes, tls: Tls) -> str:
    """Why a certificate, in DER, is not the one expected; "" = it is, or authorities alone decide."""
    shown = hashlib.sha256(certificate).hexdigest()
    if not tls.fingerprints or any(hmac.compare_digest(shown, wanted) for wanted in tls.fingerprints):
        return ""
    return f"its certificate has the fingerprint {shown}, which is not one of those given"
