"""Certificates: made, renewed, shown, refused; and plain text only where it stays on this machine."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from fairlead.certs import CertStore, StoreError
from fairlead.cli.main import app
from fairlead.config import CertificateFiles, Config, ConfigError, SecurityConfig
from fairlead.rpc import InsecureAddress, Outgoing, Tls, check_plaintext, is_loopback, make_server
from fairlead.rpc.certificates import read_material
from fairlead.rpc.renewal import ReloadedCertificates

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
RUN = CliRunner()


def certs(*arguments: str, code: int = 0) -> str:
    done = RUN.invoke(app, ["certs", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def store(tmp_path: Path) -> CertStore:
    made = CertStore(tmp_path / "certs")
    made.make_authority(400 * DAY, NOW)
    for service in ("scheduler", "predictor", "worker"):
        made.issue_service(service, ["gpu-1.lan", "10.0.0.5"] if service == "scheduler" else [], 90 * DAY, NOW)
    return made


def test_one_command_makes_what_a_suite_needs(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    said = certs("make", "--folder", str(folder), "--hosts", "gpu-1.lan, 10.0.0.5", "--days", "30")
    assert f"FAIRLEAD_SECURITY__FOLDER={folder}" in said
    ca = loaded(folder / "ca/ca.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for service in ("scheduler", "predictor", "worker"):
        made = loaded(folder / service / "tls.crt")
        made.verify_directly_issued_by(ca)
        key = made.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert 29 * DAY < made.not_valid_after_utc - NOW <= 31 * DAY
        assert (folder / service / "ca.crt").read_bytes() == (folder / "ca/ca.crt").read_bytes()
    names = loaded(folder / "scheduler/tls.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"scheduler.fairlead.internal", "localhost", "gpu-1.lan"}
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.0.0.5"}
    for secret in folder.rglob("*.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_ca_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs("make", "--folder", str(folder))
    before = (folder / "ca/ca.crt").read_bytes()
    said = certs("make", "--folder", str(folder), code=2)
    assert "--force" in said
    assert "fairlead certs renew" in said
    assert (folder / "ca/ca.crt").read_bytes() == before
    certs("make", "--folder", str(folder), "--force")
    assert (folder / "ca/ca.crt").read_bytes() != before
    loaded(folder / "worker/tls.crt").verify_directly_issued_by(loaded(folder / "ca/ca.crt"))


def test_keep_makes_what_is_missing_and_renews_what_is_due(store: CertStore) -> None:
    folder = str(store.folder)
    worker = (store.folder / "worker/tls.crt").read_bytes()
    (store.folder / "predictor/tls.crt").unlink()
    certs("make", "--keep", "--folder", folder, "--hosts", "gpu-1.lan,10.0.0.5,gpu-2.lan")
    assert (store.folder / "worker/tls.crt").read_bytes() == worker
    assert (store.folder / "predictor/tls.crt").exists()
    assert not store.lacks("scheduler", ["gpu-2.lan"])
    store.issue_service("worker", [], 90 * DAY, NOW - 61 * DAY)
    certs("make", "--keep", "--folder", folder)
    (found,) = [entry for entry in store.entries() if entry.holder == "worker"]
    assert not found.due(NOW)


def test_renew_keeps_names_takes_a_new_key_and_leaves_what_is_not_due(store: CertStore) -> None:
    folder = str(store.folder)
    store.issue_client("alice", 90 * DAY, NOW - 80 * DAY)
    before = {entry.holder: entry for entry in store.entries()}
    old_key = (store.folder / "clients/alice/tls.key").read_bytes()
    assert "renewed: clients/alice" in certs("renew", "--folder", folder)
    after = {entry.holder: entry for entry in store.entries()}
    assert [name for name in before if before[name].fingerprint != after[name].fingerprint] == ["clients/alice"]
    assert after["clients/alice"].names == ("alice.clients.fairlead.internal",)
    assert (store.folder / "clients/alice/tls.key").read_bytes() != old_key
    assert "nothing was due" in certs("renew", "--folder", folder)
    assert "renewed: scheduler, predictor, worker, clients/alice" in certs("renew", "--folder", folder, "--all")


def test_a_new_ca_signs_and_the_old_one_is_still_believed(store: CertStore) -> None:
    old = loaded(store.folder / "ca/ca.crt")
    certs("renew", "--ca", "--folder", str(store.folder))
    bundle = x509.load_pem_x509_certificates((store.folder / "worker/ca.crt").read_bytes())
    assert bundle[1] == old
    loaded(store.folder / "worker/tls.crt").verify_directly_issued_by(bundle[0])


def test_show_tells_names_and_ends_and_fails_where_one_has_expired(store: CertStore) -> None:
    told = json.loads(certs("show", "--json", "--folder", str(store.folder)))
    assert [each["holder"] for each in told] == ["ca", "scheduler", "predictor", "worker"]
    assert 89 < told[1]["days_left"] <= 90
    assert "gpu-1.lan" in certs("show", "--folder", str(store.folder))
    store.issue_service("worker", [], DAY, NOW - 2 * DAY)
    assert "-1 (due)" in certs("show", "--folder", str(store.folder), code=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["client", "Alice!"], "lower-case letters"),
        (["make", "--keep", "--hosts", "a b/c"], "no host name"),
        (["make", "--every-h", "1"], "--keep"),
    ],
)
def test_what_is_asked_wrongly(store: CertStore, arguments: list[str], told: str) -> None:
    done = RUN.invoke(app, ["certs", *arguments, "--folder", str(store.folder)])
    assert done.exit_code in (1, 2)
    assert told in done.output


def test_without_a_ca_there_is_nothing_to_renew_or_show(tmp_path: Path) -> None:
    assert "fairlead certs make" in certs("show", "--folder", str(tmp_path / "none"), code=1)
    with pytest.raises(StoreError, match="there is no CA"):
        CertStore(tmp_path).issue_client("alice", DAY, NOW)


def files(store: CertStore, service: str) -> CertificateFiles:
    return SecurityConfig(folder=store.folder).files(service)  # pyright: ignore[reportArgumentType]


def test_files_that_do_not_fit_are_named(store: CertStore, tmp_path: Path) -> None:
    good = files(store, "worker")
    assert read_material(good, "security.worker").not_after == NOW + 90 * DAY
    other = good.model_copy(update={"key": store.folder / "predictor/tls.key"})
    with pytest.raises(ConfigError, match=r"security\.worker\.key: .*predictor/tls\.key is not the key of"):
        read_material(other, "security.worker")
    missing = good.model_copy(update={"ca": tmp_path / "none"})
    with pytest.raises(ConfigError, match=r"security\.worker\.ca: .*can't be read .*certs make"):
        read_material(missing, "security.worker")
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(ConfigError, match="both must be PEM"):
        read_material(good.model_copy(update={"certificate": tmp_path / "junk"}), "security.worker")
    with pytest.raises(ConfigError, match="holds no CA"):
        read_material(good.model_copy(update={"ca": tmp_path / "junk"}), "security.worker")
    store.issue_service("worker", [], DAY, NOW - 2 * DAY)
    with pytest.raises(ConfigError, match=r"expired at .*fairlead certs renew"):
        read_material(good, "security.worker")


def test_a_renewal_is_taken_up_once_it_is_whole(store: CertStore) -> None:
    watched = ReloadedCertificates(files(store, "worker"), "security.worker")
    assert watched._renewed() is None
    spare = CertStore(store.folder.parent / "spare")
    spare.make_authority(400 * DAY, NOW)
    spare.issue_service("worker", [], 80 * DAY, NOW)
    (spare.folder / "worker/tls.key").replace(store.folder / "worker/tls.key")
    assert watched._renewed() is None, "a key without its certificate"
    (spare.folder / "worker/tls.crt").replace(store.folder / "worker/tls.crt")
    assert watched.expires_s == (NOW + 90 * DAY).timestamp()
    assert watched._renewed() is not None
    assert watched._renewed() is None
    assert watched.expires_s == (NOW + 80 * DAY).timestamp(), "what new connections see"


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:7600", True), ("localhost:1", True), ("[::1]:1", True), ("dns:///localhost:1", True),
        ("127.3.2.1:1", True), ("unix:/run/x", True), ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.1:1", False),
        ("localhost.evil.com:1", False), ("dns:///worker:7602", False), ("127.0.0.1.evil.com:1", False),
        (":7600", False),
    ],
)  # fmt: skip
def test_what_counts_as_this_machine(address: str, here: bool) -> None:
    assert is_loopback(address) is here


def test_plain_text_stays_on_this_machine_unless_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.listen: 0\.0\.0\.0:0 .*security\.allow_insecure"):
        make_server("0.0.0.0:0", [], port_setting="scheduler.listen")
    with pytest.raises(ConfigError, match=r"scheduler\.workers: dns:///worker:7602 is another machine"):
        Outgoing.configured(SecurityConfig(), "worker").check("dns:///worker:7602", "scheduler.workers")
    with pytest.raises(InsecureAddress, match="--insecure"):
        check_plaintext("scheduler:7600")
    Outgoing.configured(SecurityConfig(allow_insecure=True), "worker").check("worker:7602", "scheduler.workers")
    with pytest.raises(ConfigError, match=r"security\.client_ca"):
        make_server("127.0.0.1:0", [], port_setting="x", security=SecurityConfig(client_ca=tmp_path / "ca.crt"))


async def test_each_start_says_that_it_is_insecure(capsys: pytest.CaptureFixture[str]) -> None:
    security = SecurityConfig(allow_insecure=True)
    await make_server("0.0.0.0:0", [], port_setting="x", security=security).server.stop(None)
    said = capsys.readouterr()
    assert "INSECURE: plain text beyond this machine" in said.out + said.err
    await make_server("127.0.0.1:0", [], port_setting="x", security=security).server.stop(None)
    said = capsys.readouterr()
    assert "INSECURE" not in said.out + said.err


def test_secrets_are_not_in_what_is_printed(store: CertStore) -> None:
    from fairlead.cli.session import Access, Session
    from fairlead.config import Tenant

    key = "canary-key-of-a-tenant"
    config = Config.model_validate({"tenants": [{"name": "a", "key": key}]})
    shown = [
        repr(config), str(config), config.model_dump_json(), repr(Tenant.model_validate({"name": "a", "key": key})),
        repr(Access("x", {"a": key}, key)), repr(Session("x", 1, {"a": key})),
        repr(read_material(files(store, "worker"), "x")),
    ]  # fmt: skip
    for text in shown:
        assert key not in text
        assert "PRIVATE KEY" not in text


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both of certificate and key"):
        Config.model_validate({"security": {"worker": {"certificate": "x"}}})
    with pytest.raises(ConfigError, match="go together"):
        Tls(certificate=tmp_path / "x").credentials()


def test_doctor_tells_of_what_expires_and_of_keys_that_others_read(
    store: CertStore,
) -> None:
    from fairlead.cli.doctor_findings import State
    from fairlead.cli.doctor_security import security

    config = Config(security=SecurityConfig(folder=store.folder))
    assert {finding.state for finding in security(config)} == {State.OK}
    store.issue_service("worker", [], 90 * DAY, NOW - 80 * DAY)
    (store.folder / "predictor/tls.key").chmod(0o644)
    told = [finding.told + finding.remedy for finding in security(config) if finding.state is State.WARN]
    assert len(told) == 2
    assert "fairlead certs renew" in told[0]
    assert re.search(r"predictor/tls\.key can be read by others .*chmod 600", told[1])
