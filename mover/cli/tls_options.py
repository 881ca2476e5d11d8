"""Options of commands that are NDMP clients: how the servers prove on secure connections who they are."""

from typing import TYPE_CHECKING, Any, Final  # Any: click's own values

import click

from mover.cli.paths import FILE

if TYPE_CHECKING:
    from mover.dma import Tls

FINGERPRINT_DIGITS: Final = 64


def _fingerprints(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for value in values:
        digits = value.replace(":", "").lower()
        if len(digits) != FINGERPRINT_DIGITS or set(digits) - set("0123456789abcdef"):
            raise click.BadParameter(f"expected the SHA-256 of a certificate, 64 hexadecimal digits, got {value!r}")
        found.append(digits)
    return tuple(found)


TLS_OPTIONS: Final = (
    click.option("--tls", is_flag=True, help="Connect by TLS, to port 30000 where none is given."),
    click.option(
        "--ca", metavar="FILE", type=FILE, help="By TLS; the servers' authorities, PEM [default: the system's]."
    ),
    click.option(
        "--fingerprint", multiple=True, metavar="SHA256", callback=_fingerprints,
        help="By TLS; of a server's certificate, whoever signed it; may be repeated.",
    ),
)  # fmt: skip
"""``take_tls`` turns the values into the DMA's own."""


def take_tls(options: dict[str, Any]) -> "Tls | None":
    """Take the values of TLS_OPTIONS out of a command's options; None = plain connections."""
    from mover.dma import Tls

    tls, ca, fingerprints = (options.pop(name) for name in ("tls", "ca", "fingerprint"))
    return Tls(ca or "", fingerprints) if tls or ca or fingerprints else None
