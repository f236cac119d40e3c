"""A client's connection: TLS as told or as the environment says, made anew once its certificates are renewed."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import grpc

from fairlead.config import ConfigError
from fairlead.rpc import CHANNEL_OPTIONS, Tls, check_plaintext
from fairlead.rpc.certificates import signature_of

Channel = TypeVar("Channel")
CA_ENV, CERT_ENV, KEY_ENV, NAME_ENV = "FAIRLEAD_CA", "FAIRLEAD_CERT", "FAIRLEAD_CERT_KEY", "FAIRLEAD_SERVER_NAME"
INSECURE_ENV = "FAIRLEAD_INSECURE"
SYSTEM_CA = "system"
MAX_RETIRED = 4
"""Connections with renewed certificates that are kept for the streams on them; the oldest is closed then."""


def tls_from_environment(environment: Mapping[str, str] | None = None) -> Tls | None:
    """TLS as FAIRLEAD_CA (a file, or `system`), FAIRLEAD_CERT, FAIRLEAD_CERT_KEY say; None where they are not set."""
    found = os.environ if environment is None else environment
    ca, certificate = found.get(CA_ENV), found.get(CERT_ENV)
    if not ca and not certificate:
        return None
    own = None if ca == SYSTEM_CA else ca or None
    return Tls(own, certificate or None, found.get(KEY_ENV) or None, found.get(NAME_ENV) or None)


def chosen_tls(address: str, tls: Tls | bool | None) -> Tls | None:
    """What a client uses: as told; None: as the environment says, else plain text to this machine.

    Raises:
        InsecureAddress: plain text to another machine that nobody asked for.
    """
    if isinstance(tls, Tls):
        return tls
    if tls:
        return Tls()
    found = tls_from_environment() if tls is None else None
    if found is None:
        check_plaintext(address, allowed=tls is False or os.environ.get(INSECURE_ENV, "") not in ("", "0", "false"))
    return found


class Connection(Generic[Channel]):
    """One server, reached by a stub. A stub made after a renewal uses the new files; older streams go on.

    Args:
        address: host:port.
        tls: see `chosen_tls`.
        credentials: ready-made ones; `tls` is then not looked at.
        secure, insecure: make a channel.
        stub: makes a stub of a channel.
        close: closes a channel whose certificates were renewed several times since.

    Attributes:
        tls: how it is reached; None: in plain text, or with ready-made credentials.

    Raises:
        ConfigError: certificates that can't be used.
        InsecureAddress: plain text to another machine that nobody asked for.
    """

    def __init__(
        self,
        address: str,
        tls: Tls | bool | None,
        credentials: grpc.ChannelCredentials | None,
        *,
        secure: Callable[..., Channel],
        insecure: Callable[..., Channel],
        stub: Callable[[Channel], Any],
        close: Callable[[Channel], object],
    ) -> None:
        self._address, self._secure, self._make_stub, self._close = address, secure, stub, close
        self.tls = None if credentials is not None else chosen_tls(address, tls)
        self._retired: deque[Channel] = deque()
        self._signature: object = None
        if credentials is not None:
            self._channel = secure(address, credentials, options=CHANNEL_OPTIONS)
        elif self.tls is None:
            self._channel = insecure(address, options=CHANNEL_OPTIONS)
        else:
            self._signature = self._signed(self.tls)
            self._channel = self._opened(self.tls)
        self._stub = stub(self._channel)

    def stub(self) -> Any:
        """For the next call."""
        self._renew()
        return self._stub

    def channel(self) -> Channel:
        """For the next call, where a stub of another service is wanted."""
        self._renew()
        return self._channel

    def _renew(self) -> None:
        if self.tls is not None:
            with contextlib.suppress(ConfigError, OSError):  # in the middle of a renewal: the old one still serves
                signature = self._signed(self.tls)
                if signature != self._signature:
                    channel = self._opened(self.tls)
                    self._signature = signature
                    self._retired.append(self._channel)
                    if len(self._retired) > MAX_RETIRED:
                        self._close(self._retired.popleft())
                    self._channel, self._stub = channel, self._make_stub(channel)

    def channels(self) -> list[Channel]:
        """All of them, to be closed at the end."""
        return [*self._retired, self._channel]

    def _signed(self, tls: Tls) -> object:
        return signature_of(tls.files())

    def _opened(self, tls: Tls) -> Channel:
        return self._secure(self._address, tls.credentials(), options=tls.options())
