"""TLS from files: a certificate with its chain, and its private key."""

import ssl
from pathlib import Path


class TlsError(ValueError):
    """The certificate or its key cannot be used; the message names no path."""


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server offers: TLS 1.2 and 1.3, with Python's ciphers. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Use what is in the files from the next connection on. Raises TlsError, with the old certificate still in use."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for place in (probe, context):  # a context whose loading failed half-way would be left without its key
        try:
            place.load_cert_chain(certificate, key, password=no_password)
        except ssl.SSLError as error:
            reason = (error.reason or "not PEM").lower().replace("_", " ")
            raise TlsError(f"the certificate and its key cannot be used together: {reason}") from None
        except OSError as error:
            raise TlsError(f"the certificate or its key cannot be read: {error.strerror}") from None


def no_password() -> str:
    """Instead of a question at the terminal, at which nobody sits."""
    raise TlsError("the key is encrypted; give one that is not, readable by this service alone")
