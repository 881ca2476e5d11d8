"""`mover cartridge`: the labelled cartridges of the built-in DMA, by the changer of any NDMP server."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: values as click has them

import click

from mover.cli.control_process import json_option
from mover.cli.failure import Failure
from mover.cli.job_options import catalogue_option, changer_options, tape_options, tape_session
from mover.cli.jobs import document, run_job
from mover.cli.main import LazyGroup
from mover.cli.output import print_json, print_table, printable
from mover.cli.streams import work_is_done

if TYPE_CHECKING:
    from mover.dma import CartridgeInfo

COMMANDS = {
    "label": "mover.cli.cartridges:label",
    "inventory": "mover.cli.cartridges:inventory",
    "list": "mover.cli.cartridges:list_",
}


@click.group(cls=LazyGroup, commands_in=COMMANDS)
def cartridge() -> None:
    """Label cartridges for `mover backup`, and see where they are and what is on them."""


def _given(catalogue: Path | None) -> dict[str, Any]:
    return {} if catalogue is None else {"catalogue": catalogue}


@click.command()
@click.argument("names", nargs=-1)
@tape_options()
@changer_options(required=False, waits=False)
@catalogue_option
@click.option("--overwrite", is_flag=True, help="Also cartridges with data, whoever wrote it: it is lost.")
@json_option
def label(names: tuple[str, ...], catalogue: Path | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Label the cartridge in the drive, or those in the changer whose barcodes are NAMES.

    Without NAMES all that are blank are labelled. A label has its cartridge's barcode for its name.
    """
    from mover.dma import LabelOptions, run_label

    if options["changer"] is None and len(names) != 1:
        raise click.UsageError("without --changer one NAME is needed, for the cartridge in the drive")
    if overwrite and not names:
        raise click.UsageError("--overwrite needs the NAMES of those that are to be overwritten")
    wanted = LabelOptions(**tape_session(options), names=list(names), overwrite=overwrite, **_given(catalogue))
    result = run_job(run_label, wanted, quiet=as_json)
    work_is_done()
    if as_json:
        print_json(document(result))
    else:
        for each in result.refused:
            click.echo(f"mover: {printable(each)}", err=True)
        told = " ".join(each.name for each in result.labelled) or "none"
        click.echo(f"labelled: {told}")
    if result.refused and names:
        raise Failure(f"{len(result.refused)} cartridges were not labelled")


@click.command()
@tape_options()
@changer_options(required=True, waits=False)
@catalogue_option
@click.option("--initialize", is_flag=True, help="Let the changer look into every element first.")
@json_option
def inventory(catalogue: Path | None, initialize: bool, as_json: bool, **options: Any) -> None:
    """Show what is in each element of a changer, and which backups are on it."""
    from mover.dma import InventoryOptions, run_inventory

    wanted = InventoryOptions(**tape_session(options), initialize=initialize, **_given(catalogue))
    result = run_job(run_inventory, wanted, quiet=True)
    work_is_done()
    if as_json:
        print_json(document(result))
        return
    print_table(
        ["address", "element", "barcode", "label", "jobs", "needed"],
        [
            [each.address, each.kind, printable(each.barcode), each.name, " ".join(map(str, each.jobs)), each.needed]
            for each in result.elements
            if each.full or each.kind != "slot"
        ],
    )
    slots = [each for each in result.elements if each.kind == "slot"]
    click.echo(f"{len(slots)} slots, {sum(not each.full for each in slots)} of them free")


@click.command("list")
@catalogue_option
@json_option
def list_(catalogue: Path | None, as_json: bool) -> None:
    """List the cartridges of the catalogue, and the backups on them."""
    import trio

    from mover.dma import DmaError, default_catalogue, run_cartridges

    try:
        found: list[CartridgeInfo] = trio.run(run_cartridges, catalogue or default_catalogue())
    except DmaError as error:
        raise Failure(str(error)) from None
    if as_json:
        print_json({"cartridges": [document(each) for each in found]})
    elif found:
        print_table(
            ["label", "barcode", "labelled", "full", "jobs", "needed"],
            [
                [each.name, each.barcode, _day(each.labelled), each.full, " ".join(map(str, each.jobs)), each.needed]
                for each in found
            ],
        )
    else:
        click.echo("no cartridges")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
