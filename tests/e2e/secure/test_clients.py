"""Clients at the secure port: openssl, `mover conformance`, the built-in DMA, and NDMJOB through a TLS client."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.admin import messages as a
from tests.control.test_logins import ask, audit
from tests.support import peers
from tests.support.ndmp_client import DEADLINE_S
from tests.support.secure_port import LOGIN, certificate, configured, secure_address, secure_client
from tests.support.servers import Server, mover_command

pytestmark = pytest.mark.slow


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_hears_the_greeting(server: Server, version: str) -> None:
    host, port = secure_address(server)
    command = [
        str(peers.require("openssl")), "s_client", "-connect", f"{host}:{port}", "-CAfile", str(certificate(server)),
        "-verify_return_error", "-verify_ip", host, "-quiet", "-no_ign_eof", version,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            greeting = process.stdout.read(4 + 24 + 12)
            assert greeting[:4] == b"\x80\x00\x00\x24"
            assert greeting[12 + 4 : 16 + 4] == b"\x00\x00\x05\x02"  # NOTIFY_CONNECTION_STATUS
        finally:
            process.kill()
            process.communicate(timeout=DEADLINE_S)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "weak",
    [
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        # Without forward secrecy, without authenticated encryption, without encryption, without a certificate.
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
    ],
)
def test_openssl_with_anything_weak_is_refused(server: Server, weak: tuple[str, ...]) -> None:
    host, port = secure_address(server)
    command = [str(peers.require("openssl")), "s_client", "-connect", f"{host}:{port}", *weak]
    ended = subprocess.run(command, input=b"", capture_output=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode != 0
    assert b"\x80\x00\x00\x24" not in ended.stdout  # no greeting
    with secure_client(server, LOGIN):
        pass


@pytest.mark.timeout(300)
def test_the_secure_port_conforms_as_the_plain_one_does(server: Server) -> None:
    host, port = secure_address(server)
    secret = server.config.parent / "secret"
    secret.touch(mode=0o600)
    secret.write_text(LOGIN.password)
    command = [
        *mover_command(), "conformance", f"{host}:{port}", "--user", LOGIN.user, "--password-file", str(secret),
        "--versions", "4", "--timeout", "60",
    ]  # fmt: skip
    shown = ask(server, a.Version(), a.VersionReply).certificate_fingerprint
    for words in (
        ("--ca", str(certificate(server)), "--groups", "connect"),
        ("--fingerprint", shown, "--groups", "config", "--match", "HOST_INFO"),
    ):
        ended = subprocess.run([*command, *words], capture_output=True, text=True, timeout=240, check=False)
        assert (ended.returncode, "fail:" in ended.stderr) == (0, False), ended.stdout + ended.stderr
    logins = [line for line in audit(server) if line["event"] == "login"]
    assert logins
    assert {line["secure"] for line in logins} == {True}
    for refused, why in (
        (("--tls",), "its certificate is not trusted: "),
        (("--fingerprint", "00" * 32), "its certificate has the fingerprint "),
    ):
        ended = subprocess.run([*command, *refused], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 3
        assert why in ended.stderr
    assert [line for line in audit(server) if line["event"] == "login"] == logins  # no word was said


def dma(server: Server, *words: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
    """The built-in DMA at the secure port."""
    host, secure_port = secure_address(server)
    directory = server.config.parent
    secret = directory / "secret"
    secret.write_text(LOGIN.password)
    secret.chmod(0o600)
    command = [
        *mover_command(), *words, "--host", f"{host}:{port or secure_port}", "--drive", "vtl0/drive0",
        "--user", LOGIN.user, "--password-file", str(secret), "--catalogue", str(directory / "catalogue"),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_built_in_dma_knows_the_server_before_it_says_a_word(directory: Path) -> None:
    source = directory / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content" * 100_000)
    config = configured(directory)
    config.write_text(config.read_text().replace("[node.volumes]", f'[node.volumes]\nv = "{directory}"'))
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        shown = ask(server, a.Version(), a.VersionReply).certificate_fingerprint
        authority = ("--ca", str(certificate(server)))
        refusals = {
            ("--tls",): "its certificate is not trusted: ",
            ("--fingerprint", "00" * 32): f"its certificate has the fingerprint {shown.replace(':', '').lower()}, ",
            ("--ca", str(source / "file")): f"{source / 'file'}: ",
            ("--ca", str(directory / "none")): f"{directory / 'none'}: No such file or directory",
        }
        for words, why in refusals.items():
            ended = dma(server, "backup", str(source), *words)
            assert ended.returncode == 1
            host, port = secure_address(server)
            assert ended.stderr.splitlines()[-1].startswith(f"mover: no secure connection to {host}:{port}: {why}")
        assert not (server.config.parent / "state" / "audit.log").exists()  # not even a login was tried
        plain = int(server.address.rpartition(":")[2])
        ended = dma(server, "backup", str(source), "--tls", port=plain)  # a greeting is no handshake
        assert ended.returncode == 1
        assert f"no secure connection to 127.0.0.1:{plain}: what is there does not speak TLS" in ended.stderr

        ended = dma(server, "backup", str(source), "--fingerprint", shown)
        assert ended.returncode == 0, ended.stderr
        ended = dma(server, "recover", "--destination", str(directory / "back"), *authority)
        assert ended.returncode == 0, ended.stderr
        assert (directory / "back" / "file").read_bytes() == (source / "file").read_bytes()
        host, port = secure_address(server)
        command = [
            *mover_command(), "copy", f"{host}:{port}:{source}", f"{host}:{port}:{directory}/copied",
            "-sa", LOGIN.user, "--password-file", str(directory / "secret"), *authority,
        ]  # fmt: skip
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        assert (directory / "copied" / "file").read_bytes() == (source / "file").read_bytes()
        assert {line["secure"] for line in audit(server) if line["event"] == "login"} == {True}


@pytest.mark.parametrize("value", ["", "00", "zz" * 32, "00" * 33])
def test_a_fingerprint_that_is_none_is_wrong_usage(value: str) -> None:
    command = [*mover_command(), "backup", "/x", "--fingerprint", value]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "expected the SHA-256 of a certificate" in ended.stderr


def socat(server: Server, directory: Path) -> list[str]:
    host, port = secure_address(server)
    return [
        str(peers.require("socat")), "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork",
        f"OPENSSL:{host}:{port},cafile={certificate(server)},verify=1,openssl-min-proto-version=TLS1.2",
    ]  # fmt: skip


def stunnel(server: Server, directory: Path) -> list[str]:
    host, port = secure_address(server)
    config = directory / "stunnel.conf"
    config.write_text(
        f"foreground = yes\nsyslog = no\ndebug = info\npid =\n[ndmp]\nclient = yes\naccept = 127.0.0.1:0\n"
        f"connect = {host}:{port}\nCAfile = {certificate(server)}\nverifyChain = yes\ncheckIP = {host}\n"
        "sslVersionMin = TLSv1.2\n"
    )
    return [str(peers.require("stunnel4")), str(config)]


@pytest.mark.parametrize(
    ("proxy_of", "bound"),
    [
        pytest.param(socat, r"listening on .*:(\d+)", marks=pytest.mark.peer("ndmjob", "socat"), id="socat"),
        pytest.param(
            stunnel, r"bound to 127\.0\.0\.1:(\d+)",
            marks=pytest.mark.peer("ndmjob", "stunnel4"), id="stunnel",
        ),
    ],
)  # fmt: skip
def test_ndmjob_works_through_a_tls_client_of_its_own(
    directory: Path, proxy_of: Callable[[Server, Path], list[str]], bound: str
) -> None:
    """ndmjob has no TLS; a proxy gives it some, and checks the certificate."""
    source = directory / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content" * 1000)
    config = configured(directory)
    text = config.read_text().replace("[node.volumes]", f'[node.volumes]\nv = "{directory}"')
    config.write_text(text.replace('"plaintext_sso"', '"plaintext"'))
    with Server(config) as server:
        server.ask("tape", "load", "vtl0/drive0")
        with subprocess.Popen(proxy_of(server, directory), stderr=subprocess.PIPE, text=True) as proxy:
            try:
                assert proxy.stderr is not None
                found = (re.search(bound, line) for line in proxy.stderr)
                port = next(match[1] for match in found if match is not None)
                agent = f"127.0.0.1:{port}/4m,{LOGIN.user},{LOGIN.password}"
                job = [
                    str(peers.require("ndmjob")), "-v", "-o", "no-time-stamps", "-D", agent, "-f", "vtl0/drive0",
                    "-b", "128", "-B", "dump", "-c", "-C", str(source),
                ]  # fmt: skip
                ended = subprocess.run(job, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
                assert "Operation ended OKAY" in ended.stdout + ended.stderr, ended.stdout + ended.stderr
            finally:
                proxy.terminate()
                proxy.communicate(timeout=DEADLINE_S)
        assert all(line["secure"] for line in audit(server) if line["event"] == "login")
