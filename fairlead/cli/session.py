"""Where the commands find a suite and its keys: options, the environment, or what `fairlead up` last wrote down."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fairlead.client import Tls
from fairlead.client_connection import tls_from_environment
from fairlead.config import Config, ConfigError, load_config

DEFAULT_ADDRESS = "127.0.0.1:7600"
ADDRESS_ENV = "FAIRLEAD_ADDRESS"
KEY_ENV = "FAIRLEAD_KEY"


@dataclass(frozen=True)
class Session:
    """A suite started by `fairlead up`.

    Attributes:
        address: host:port of its scheduler.
        pid: the process that runs it.
        keys: tenant to API key, of the tenants whose keys are known.
        ca: file of the CA that its certificate comes from; "" without TLS.
    """

    address: str
    pid: int
    keys: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    ca: str = ""


def session_file() -> Path:
    """The file that holds the last suite's address and keys, readable by this user alone."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "fairlead" / "suite.json"


def save_session(session: Session) -> None:
    """Writes it down for the other commands."""
    path = session_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(session), file)


def load_session() -> Session | None:
    """The last suite, if one is written down."""
    try:
        return Session(**json.loads(session_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def drop_session(pid: int) -> None:
    """Forgets the suite of process `pid`, unless another has been written down since."""
    session = load_session()
    if session is not None and session.pid == pid:
        session_file().unlink(missing_ok=True)


def known_keys(config: Config) -> dict[str, str]:
    """Tenant to key, of those whose key itself can be read from here."""
    keys: dict[str, str] = {}
    for tenant in config.tenants:
        with contextlib.suppress(ConfigError):
            keys[tenant.name] = tenant.read_key()
    return keys


@dataclass(frozen=True)
class Access:
    """Whom to ask, as whom, and how.

    Attributes:
        tls: None: as the environment says, else plain text to this machine.
    """

    address: str
    keys: dict[str, str] = field(repr=False)
    explicit_key: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    def key(self, tenant: str | None, *, operator: bool = False) -> str:
        """The key to use: the one given, else that of `tenant`, else of the first tenant that fits.

        Raises:
            ConfigError: no key is known.
        """
        if self.explicit_key:
            return self.explicit_key
        if tenant is None:
            tenant = "operator" if operator else next((name for name in self.keys if name != "operator"), None)
        if tenant in self.keys:
            return self.keys[tenant]
        known = ", ".join(sorted(self.keys)) or "none"
        raise ConfigError(
            f"no key is known for tenant {tenant!r} (known: {known}); give one with --key or FAIRLEAD_KEY"
        )


def find_access(address: str | None, key: str | None, config_path: Path | None) -> Access:
    """Options first, then the environment, then the configuration file, then the suite that runs on this machine.

    A configuration that only FAIRLEAD_CONFIG names (as in a container) counts where no suite is written down.

    Raises:
        ConfigError: the configuration file can't be read.
    """
    session = load_session()
    if session is None and config_path is None and os.environ.get("FAIRLEAD_CONFIG"):
        config_path = Path(os.environ["FAIRLEAD_CONFIG"])
    config = load_config(config_path) if config_path else None
    keys = known_keys(config) if config else (dict(session.keys) if session else {})
    chosen = address or os.environ.get(ADDRESS_ENV)
    if chosen is None and config is not None:
        chosen = reachable(config.scheduler.listen)
    if chosen is None:
        chosen = session.address if session else DEFAULT_ADDRESS
    return Access(chosen, keys, key or os.environ.get(KEY_ENV), find_tls(chosen, config, session))


def find_tls(address: str, config: Config | None, session: Session | None) -> Tls | None:
    """The environment first, then the configuration file, then the suite that runs here, where it is the one asked."""
    told = tls_from_environment()
    if told is not None:
        return told
    if config is not None and address == reachable(config.scheduler.listen):
        return suite_tls(config)
    if session is not None and session.ca and address == session.address:
        return Tls(session.ca)
    return None


def suite_tls(config: Config) -> Tls | None:
    """How a client on this machine reaches the scheduler of a configuration; None where it speaks plain text."""
    files = config.security.files("scheduler")
    if files.certificate is None:
        return None
    if config.security.client_ca is None:
        return Tls(files.ca)
    own = tls_from_environment()  # whoever runs the suite on this machine may show the scheduler's own certificate
    shown = (own.certificate, own.key) if own is not None and own.certificate else (files.certificate, files.key)
    return Tls(files.ca, *shown)


def reachable(listen: str) -> str:
    """The address at which a listener on all interfaces is reached from this machine."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]", "::") else listen
