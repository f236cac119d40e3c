"""What gRPC says of a TLS handshake that failed, in words that help; without a connection of its own."""

from __future__ import annotations

_NOT_CONNECTED = "failed to connect to all addresses"
_WORDS = (
    ("certificate has expired", "the server's certificate has expired: renew it there (`fairlead certs renew`)"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the server's certificate is not from the CA that was given: give the ca.crt of the suite that runs there",
    ),
    (
        "Hostname Verification Check failed",
        "the server's certificate is for other names: use a name that it has, or make it anew (`fairlead certs make "
        "--keep --hosts NAME`)",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS, and this side does: set security.folder there, or leave TLS out",
    ),
    (
        "Socket closed",
        "the server closed the connection at once: it speaks TLS and this side does not, or it asks for a "
        "certificate that was not shown, or is not from its CA",
    ),
)


def in_plain_words(text: str) -> str:
    """The same text with what helps before it, where it tells of a connection that TLS kept from standing."""
    if _NOT_CONNECTED in text:
        for sign, words in _WORDS:
            if sign in text:
                return f"{words} ({text})"
    return text
