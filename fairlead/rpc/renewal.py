"""A server's certificate, read again once it is renewed.

A renewal is seen by the files' inodes, times and sizes, so that a link that is turned to another folder counts (as
Kubernetes does it). Files that do not fit together, as in the middle of a renewal, change nothing until they do.
"""

from __future__ import annotations

import threading
from typing import Any

import grpc

from fairlead.config import CertificateFiles, ConfigError
from fairlead.rpc.certificates import read_material, signature_of
from fairlead.telemetry import get_logger


class ReloadedCertificates:
    """A server's certificate, current at each new connection; connections that stand keep what they began with.

    Args:
        files: certificate and key; `ca`: clients must show a certificate of it.
        setting: where they are configured.

    Raises:
        ConfigError: they can't be used now, at the start.
    """

    def __init__(self, files: CertificateFiles, setting: str) -> None:
        self._files, self._setting = files, setting
        self._lock = threading.Lock()
        self._log = get_logger("tls")
        self.material = read_material(files, setting)
        self._signature = signature_of(files)
        assert self.material.not_after is not None, "a server needs a certificate"
        self._log.info("certificate", setting=setting, expires=self.material.not_after.isoformat())

    @property
    def expires_s(self) -> float:
        """When the certificate that new connections see expires, s since 1970."""
        assert self.material.not_after is not None
        return self.material.not_after.timestamp()

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; asks for client certificates where the files name a `ca`."""
        asks_clients = self._files.ca is not None
        renewed: Any = self._renewed  # the stub lacks None
        return grpc.dynamic_ssl_server_credentials(self._configuration(), renewed, asks_clients)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        material = self.material
        assert material.key is not None
        assert material.certificate is not None
        return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, on a thread of its own, before each handshake: what is new, or None."""
        with self._lock:
            try:
                signature = signature_of(self._files)
                if signature == self._signature:
                    return None
                self.material = read_material(self._files, self._setting)
            except (ConfigError, OSError) as error:
                self._log.warning("certificate not renewed, the old one stays", problem=str(error))
                return None
            self._signature = signature
            assert self.material.not_after is not None
            self._log.info("certificate renewed", setting=self._setting, expires=self.material.not_after.isoformat())
            return self._configuration()
