"""Why a connection does not come about: one TLS handshake of its own, and a sentence that says what helps.

gRPC tells of a failed handshake in OpenSSL's words, or only that the connection was closed.
"""

from __future__ import annotations

import socket
import ssl

from fairlead.config import ConfigError
from fairlead.rpc import Tls

WITHIN_S = 3.0
ALERT_WITHIN_S = 0.5
"""A TLS 1.3 server that refuses a client's certificate says so only after the client's handshake is over."""
_EXPIRED, _NOT_YET, _NAME, _ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, ..._NOT_YET_VALID, ..._HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH."""
_CLIENT_NEEDED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_CLIENT_EXPIRED = ("ALERT_CERTIFICATE_EXPIRED",)
_CLIENT_REFUSED = ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_DECRYPT_ERROR")
_CLIENT_WRONG = "{} refused this client's certificate: it is not from a CA that security.client_ca names there"
_CLIENT_MISSING = (
    "{} asks for a client certificate: give one with --cert and --cert-key, or FAIRLEAD_CERT and FAIRLEAD_CERT_KEY "
    "(`fairlead certs client NAME` makes one)"
)


def diagnose(address: str, tls: Tls | None) -> str:
    """One sentence with its remedy; "" where TLS is not what is wrong.

    Args:
        address: host:port.
        tls: how it was tried; None: in plain text.
    """
    host, _, port = address.rpartition("/")[2].rpartition(":")
    host = host.strip("[]")
    try:
        context = _context(tls)
        name = (tls.server_name if tls else None) or host
        with (
            socket.create_connection((host, int(port)), WITHIN_S) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            if tls is None:
                return _plain_to_tls(address)
            return _after_handshake(secured, address, tls)
    except ConfigError as error:
        return str(error)
    except ssl.SSLCertVerificationError as error:
        return _not_believed(error, address, tls)
    except ssl.SSLError as error:
        return _alert(error, address, tls)
    except (OSError, ValueError, OverflowError):
        return ""


def _after_handshake(secured: ssl.SSLSocket, address: str, tls: Tls) -> str:
    """A gRPC server speaks at once; one that closes instead did not like the client's certificate, or its absence."""
    secured.settimeout(ALERT_WITHIN_S)
    try:
        if secured.recv(1):
            return ""
    except TimeoutError:
        return ""
    except ssl.SSLError as error:
        return _alert(error, address, tls)
    except OSError:
        pass
    return _CLIENT_WRONG.format(address) if tls.certificate is not None else _CLIENT_MISSING.format(address)


def _context(tls: Tls | None) -> ssl.SSLContext:
    if tls is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        files = tls.files()
        tls.credentials()  # says what is wrong with the files, if anything is
        context = ssl.create_default_context(cafile=files.ca)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    return context


def _plain_to_tls(address: str) -> str:
    return (
        f"{address} speaks TLS, and plain text was tried: give the CA of its certificate with --ca or FAIRLEAD_CA (in "
        "a program, tls=Tls(ca=...)); `fairlead certs make` wrote it as ca.crt"
    )


def _not_believed(error: ssl.SSLCertVerificationError, address: str, tls: Tls | None) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {address} has expired: renew it there (`fairlead certs renew`), or set this clock"
    if error.verify_code == _NOT_YET:
        return f"the certificate of {address} is not valid yet: this clock or the one that made it is wrong"
    if error.verify_code in (_NAME, _ADDRESS):
        return (
            f"the certificate of {address} is for other names ({error.verify_message}): use one that it has, give it "
            "with --server-name or FAIRLEAD_SERVER_NAME, or make it anew with `fairlead certs make --keep --hosts NAME`"
        )
    ca = tls.ca if tls is not None and tls.ca is not None else "the system's CAs"
    return (
        f"the certificate of {address} does not come from {ca} ({error.verify_message}): give the ca.crt of the suite "
        "that runs there with --ca or FAIRLEAD_CA"
    )


def _alert(error: ssl.SSLError, address: str, tls: Tls | None) -> str:
    reason = error.reason or str(error)
    if any(word in reason for word in _CLIENT_EXPIRED):
        return f"{address} refused this client's certificate, which has expired: renew it (`fairlead certs renew`)"
    if any(word in reason for word in _CLIENT_REFUSED):
        return _CLIENT_WRONG.format(address)
    if any(word in reason for word in _CLIENT_NEEDED):
        if tls is None:
            return _plain_to_tls(address)
        return _CLIENT_MISSING.format(address)
    if tls is None:
        return ""
    return f"{address} does not speak TLS ({reason}): leave --ca and FAIRLEAD_CA out, or set security.folder there"
