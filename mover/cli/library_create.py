"""`mover library create`: makes a virtual library's directory and cartridges, and the section that the server needs."""

import json
import os
import re
import tempfile
from contextlib import suppress
from typing import Final

import click

from mover.cli.control_process import CONFIG_DEFAULT, json_option
from mover.cli.failure import Failure, WrongConfiguration
from mover.cli.output import print_json, printable
from mover.cli.paths import FILE
from mover.cli.streams import work_is_done

SUFFIX: Final = ".tap"
MAIL_DIRECTORY: Final = "import_export"
SLOTS_MAX: Final = 65_000


@click.command()
@click.argument("library")
@click.option(
    "--directory", required=True, metavar="DIR",
    help="Where its cartridges are to be files; made if it is not there.",
)  # fmt: skip
@click.option("--drives", type=click.IntRange(1, 256), default=2, show_default=True, help="Tape drives.")
@click.option("--slots", type=click.IntRange(1, SLOTS_MAX), default=8, show_default=True, help="Places of cartridges.")
@click.option("--import-export", type=click.IntRange(0, 255), default=2, show_default=True, help="Mail slots.")
@click.option("--cartridge-size", default="100GiB", show_default=True, metavar="SIZE", help="What one cartridge holds.")
@click.option("--early-warning", metavar="SIZE", help="How far before its end a cartridge warns [default: 256MiB].")
@click.option(
    "--cartridges", type=click.IntRange(0, SLOTS_MAX), metavar="N", help="How many to make [default: one in each slot]."
)
@click.option(
    "--config", envvar="MOVER_CONFIG", default=CONFIG_DEFAULT, show_default=True, metavar="FILE", type=FILE,
    help="The configuration that the library is for; it is not changed.",
)  # fmt: skip
@json_option
def create(
    library: str, directory: str, drives: int, slots: int, import_export: int, cartridge_size: str,
    early_warning: str | None, cartridges: int | None, config: str, as_json: bool,
) -> None:  # fmt: skip
    """Make a virtual LIBRARY: its directory, cartridges, and the section for the configuration.

    The section goes to standard output, to be put into the configuration; with the next start of the server the
    library is there. It needs no server. The files belong to whom the directory belongs to.
    """
    count = slots if cartridges is None else cartridges
    if count > slots:
        raise click.UsageError(f"{count} cartridges do not fit into {slots} slots")
    directory = os.path.abspath(directory)
    section = _section(
        name=library, directory=directory, drives=drives, slots=slots, import_export=import_export,
        cartridge_size=cartridge_size, early_warning=early_warning,
    )  # fmt: skip
    _check(config, section)
    barcodes = [f"{_prefix(library)}{number:04d}" for number in range(1, count + 1)]
    _make(directory, barcodes, mail=import_export > 0)
    work_is_done()
    text = (
        f"{directory} holds {count} cartridges; the library is there when its section is in {config} and mover starts"
    )
    if as_json:
        print_json({"text": text, "directory": directory, "barcodes": barcodes, "section": section})
        return
    click.echo(section, nl=False)
    click.echo(printable(text), err=True)


def _section(**values: str | int | None) -> str:
    """The library's table in TOML, whose strings are JSON's; None = no such key."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n[[library]]\n" + "\n".join(lines) + "\n"


def _check(config: str, section: str) -> None:
    """Whether the configuration, where there is one, takes this section besides what is in it. Raises Failure."""
    from mover.config import ConfigError, parse_config
    from mover.config.checks import check_consistency

    before = b""
    try:
        with open(config, "rb") as file:
            before = file.read()
    except FileNotFoundError:
        if config != CONFIG_DEFAULT:
            raise WrongConfiguration(f"{config}: no such file") from None
    except OSError as error:
        raise WrongConfiguration(f"{config}: {error.strerror}") from None
    with tempfile.NamedTemporaryFile(prefix="mover-library-", suffix=".toml") as both:
        both.write(before + b"\n" + section.encode())
        both.flush()
        try:
            check_consistency(both.name, parse_config(both.name))
        except ConfigError as error:
            raise WrongConfiguration(str(error).replace(both.name, f"{config} with this library")) from None


def _prefix(library: str) -> str:
    """Of the barcodes; those that `mover tape create` makes later go on behind them."""
    return re.sub(r"[^A-Z0-9]", "", library.upper())[:4] or "TAPE"


def _make(directory: str, barcodes: list[str], *, mail: bool) -> None:
    """Make the directory and empty cartridges in it, all on disk. Raises Failure; nothing is left of ours then."""
    made: list[str] = []
    try:
        if not os.path.isdir(directory):
            os.makedirs(directory, 0o700)
            made.append(directory)
        there = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
        if there:
            raise Failure(f"{directory} holds cartridges already: {there[0]}")
        if mail and not os.path.isdir(os.path.join(directory, MAIL_DIRECTORY)):
            made.append(os.path.join(directory, MAIL_DIRECTORY))
            os.mkdir(made[-1], 0o700)
        for barcode in barcodes:
            path = os.path.join(directory, barcode + SUFFIX)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            made.append(path)
        _hand_over(directory, made)
        for path in {directory, os.path.dirname(directory)}:
            _sync(path)
    except (OSError, Failure) as error:
        for path in reversed(made):
            with suppress(OSError):  # somebody else's are in it now
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        if isinstance(error, Failure):
            raise
        raise Failure(f"{error.filename or directory}: {error.strerror}") from None


def _hand_over(directory: str, made: list[str]) -> None:
    """Give what root has made to whom the directory belongs to: the server may be that user."""
    owner = os.stat(directory)
    if os.geteuid() == 0:
        for path in made:
            os.chown(path, owner.st_uid, owner.st_gid)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
