"""Settings of TLS, of who may call whom, and of the bounds of a port."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fairlead.config.base import Count, Positive, Section

ServiceName = Literal["scheduler", "predictor", "worker"]
PeerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$")]


class CertificateFiles(Section):
    """A certificate, its key, and whom to believe; all PEM, all read again when they are renewed."""

    certificate: Path | None = None
    """The certificate, then those that it was issued by."""
    key: Path | None = None
    """Its key, unencrypted; readable by this service alone."""
    ca: Path | None = None
    """CAs that the other side's certificate must come from."""

    @model_validator(mode="after")
    def _both(self) -> CertificateFiles:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give both of certificate and key, or neither")
        return self


class SecurityConfig(Section):
    """TLS and who may call whom. Without TLS a service listens, and is reached, on loopback addresses only."""

    folder: Path | None = None
    """What `fairlead certs make` wrote: `tls.crt`, `tls.key` and `ca.crt` in a folder for each service."""
    scheduler: CertificateFiles = CertificateFiles()
    """Shown to clients; null: from `folder`."""
    predictor: CertificateFiles = CertificateFiles()
    """Shown to the scheduler; null: from `folder`."""
    worker: CertificateFiles = CertificateFiles()
    """Shown to the scheduler; null: from `folder`."""
    outgoing: CertificateFiles = CertificateFiles()
    """What the scheduler shows to workers and predictor, and whom of them it believes; null: as `scheduler`."""
    client_ca: Path | None = None
    """CAs of clients' certificates: every client must show one; null: none is asked for."""
    scheduler_name: PeerName = "scheduler.fairlead.internal"
    """DNS name in the scheduler's certificate; worker and predictor serve nobody else."""
    predictor_name: PeerName = "predictor.fairlead.internal"
    """DNS name in the predictor's certificate; the scheduler asks nobody else."""
    worker_name: PeerName = "worker.fairlead.internal"
    """DNS name in each worker's certificate, whatever its address; the scheduler leads nobody else."""
    service_key_file: Path | None = None
    """File with a secret that the scheduler sends to workers and predictor, where they ask for no certificate."""
    allow_insecure: bool = False
    """Plain text beyond loopback addresses, for a network that you trust; each service says so at every start."""
    max_connections: Count = 2048
    """Connections that a port holds open; more are closed at once."""
    max_calls: Count = 16_384
    """Calls in flight on a port."""
    max_calls_per_tenant: Count = 8192
    """Calls in flight of one tenant, whatever they ask."""
    handshake_timeout_s: Positive = 10.0
    """A connection that has not finished its handshake after this is closed."""

    def files(self, service: ServiceName) -> CertificateFiles:
        """What a service shows on its port; without certificate where TLS is off."""
        return self._from_folder(getattr(self, service), service)

    def outgoing_files(self) -> CertificateFiles:
        """What the scheduler shows to workers and predictor."""
        return self._from_folder(self.outgoing, "scheduler") if _empty(self.outgoing) else self.outgoing

    def name_of(self, service: ServiceName) -> str:
        """The name that a service's certificate must carry."""
        name: str = getattr(self, f"{service}_name")
        return name

    def _from_folder(self, own: CertificateFiles, service: ServiceName) -> CertificateFiles:
        if not _empty(own) or self.folder is None:
            return own
        folder = self.folder / service
        return CertificateFiles(certificate=folder / "tls.crt", key=folder / "tls.key", ca=folder / "ca.crt")


def _empty(files: CertificateFiles) -> bool:
    return files == CertificateFiles()
