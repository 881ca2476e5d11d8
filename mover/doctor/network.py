"""Checks of addresses, ports, networks and certificates."""

import errno
import http.client
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from mover.config import Config
from mover.config.state_files import CERTIFICATE, KEY
from mover.doctor.finding import Finding, error, good, warning
from mover.doctor.patient import Patient

SOON: Final = timedelta(days=30)
PORTS_SEEN_MAX: Final = 2_000
METRICS_S: Final = 5.0


def _listen(address: str, port: int) -> int:
    """The error number of listening there; 0 = it can be done."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError as failed:
            return failed.errno or errno.EIO
    return 0


def lifs(patient: Patient) -> Iterator[Finding]:
    """The addresses of the LIFs are this host's, and their ports are free or the server's own."""
    config = patient.config
    for lif in config.lif:
        ports = [lif.port, lif.secure_port] if config.is_secure(lif) else [lif.port]
        for port in ports:
            subject = f"LIF {lif.name}, {lif.address} port {port}"
            code = _listen(lif.address, port)
            if code == errno.EADDRINUSE and patient.server is not None:
                yield good(subject, "in use, while the server runs")
            elif code == errno.EADDRINUSE:
                yield error(subject, "another program listens there", f"ss -ltnp 'sport = :{port}' names it")
            elif code == errno.EADDRNOTAVAIL:
                yield error(subject, "not an address of this host", "ip address; then mend the LIF's address")
            elif code:
                yield error(subject, os.strerror(code), "mend the LIF, or run the server as a user who may")
            elif port and patient.server is not None:
                yield error(subject, "the server runs and nobody listens there", "restart it: a LIF was changed")
            else:
                yield good(subject, "free")


def data_ports(patient: Patient) -> Iterator[Finding]:
    """There are ports for as many data connections as there may be sessions."""
    ports = patient.config.data_connections.port_range
    if not ports.last:
        yield good("data ports", "any")
        return
    count = ports.last - ports.first + 1
    subject = f"data ports {ports.first}-{ports.last}"
    looked_at = range(ports.first, min(ports.last + 1, ports.first + PORTS_SEEN_MAX))
    free = sum(_listen("0.0.0.0", port) == 0 for port in looked_at)  # noqa: S104 - nothing listens: it is closed again
    if not free:
        yield error(subject, "all in use", "data_connections.port_range: give more, or other ones")
    elif count < patient.config.limits.sessions:
        yield warning(
            subject,
            f"{count} for up to {patient.config.limits.sessions} sessions",
            "data_connections.port_range: a port for each job at once, and open them in the firewall",
        )
    else:
        yield good(subject, f"{free} of {len(looked_at)} are free")


def strangers(patient: Patient) -> Iterator[Finding]:
    """Who else could be first at a data port: the list of networks keeps them out, or the token of encryption."""
    config = patient.config
    wide = [network for network in config.data_connections.allow if _is_wide(network)]
    services = [config.node, *config.vserver]
    if wide and any(each.data_connection_encryption != "required" for each in services):
        yield warning(
            "data_connections.allow",
            f"{', '.join(wide)}: any host there may be first at a data port, before the mover that is waited for",
            "name the movers' own networks, or have data-connection-encryption required",
        )
    else:
        yield good("data_connections.allow", ", ".join(config.data_connections.allow))
    for lif in config.lif:
        service = config.service(lif.vserver)
        if not ipaddress.ip_address(lif.address).is_loopback and "none" in service.authtype:
            yield error(f"LIF {lif.name}", "anybody may log in (authtype none)", "take none out of authtype")


def _is_wide(network: str) -> bool:
    if network == "lan":
        return False
    parsed = ipaddress.ip_network(network, strict=False)
    return parsed.prefixlen < (8 if parsed.version == 4 else 16) and not parsed.is_loopback


def certificates(patient: Patient) -> Iterator[Finding]:
    """The certificate of the secure ports is valid, and its key is ours alone."""
    config = patient.config
    if not any(config.is_secure(lif) for lif in config.lif):
        return
    certificate, key = _identity(config)
    if not os.path.lexists(certificate) and not config.tls.certificate:
        yield good("certificate", f"{certificate} is made at the first start")
        return
    try:
        if stat.S_IMODE(os.stat(key).st_mode) & 0o077:
            yield error("certificate", f"others may read its key {key}", f"chmod 600 {key}")
        with open(certificate, "rb") as file:
            read = x509.load_pem_x509_certificate(file.read())
    except OSError as failed:
        yield error(
            "certificate", f"{failed.filename}: {failed.strerror}", "[tls] of the configuration names the files"
        )
        return
    except ValueError as failed:
        yield error("certificate", f"{certificate}: {failed}", "give a certificate in PEM")
        return
    left = read.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta(0):
        yield error(
            "certificate", f"{certificate} ended on {read.not_valid_after_utc:%Y-%m-%d}", "renew it, then SIGHUP"
        )
    elif left < SOON:
        yield warning("certificate", f"{certificate} ends in {left.days} days", "renew it, then SIGHUP")
    else:
        yield good("certificate", f"{certificate} is valid until {read.not_valid_after_utc:%Y-%m-%d}")


def _identity(config: Config) -> tuple[str, str]:
    if config.tls.certificate:
        return config.tls.certificate, config.tls.key
    directory = config.node.state_directory
    return os.path.join(directory, CERTIFICATE), os.path.join(directory, KEY)


_ANSWERS: Final = {http.client.OK: "answers", http.client.UNAUTHORIZED: "answers who has the token"}


def metrics(patient: Patient) -> Iterator[Finding]:
    """The status page and the metrics answer, while the server runs."""
    at = patient.config.node.metrics
    if not at:
        yield good("metrics", "off")
        return
    host, _, port = at.rpartition(":")
    if patient.server is None or not int(port):
        code = _listen(host.strip("[]"), int(port))
        if code:
            yield warning("metrics", f"{at}: {os.strerror(code)}", "node.metrics: give another address")
        else:
            yield good("metrics", f"{at} is free")
        return
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=METRICS_S)
    try:
        connection.request("GET", "/metrics")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as failed:
        yield warning("metrics", f"{at} does not answer: {failed}", "see the server's log for node.metrics")
    else:
        if status in _ANSWERS:
            yield good("metrics", f"{at} {_ANSWERS[status]}")
        elif status == http.client.SERVICE_UNAVAILABLE:
            yield warning("metrics", f"{at} has none now", "node.statistics_interval_s: with 0 there are none")
        else:
            yield warning(
                "metrics", f"{at} answers {status}", "another program is there: give node.metrics another port"
            )
    finally:
        connection.close()
