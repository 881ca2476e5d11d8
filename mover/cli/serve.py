"""`mover serve`: the only command that is a control process itself."""

import gc
import os

import click

from mover.cli.control_process import CONFIG_DEFAULT
from mover.cli.failure import Failure, WrongConfiguration
from mover.cli.paths import FILE
from mover.config import ConfigError, check_environment, load_config


@click.command()
@click.option(
    "--config",
    "path",
    envvar="MOVER_CONFIG",
    default=CONFIG_DEFAULT,
    show_default=True,
    metavar="FILE",
    type=FILE,
    help="The configuration, TOML.",
)
@click.pass_context
def serve(context: click.Context, path: str) -> None:
    """Serve NDMP in the foreground until SIGTERM.

    One JSON line on standard output says when every listener is open; logs go to standard error. SIGHUP reads the
    configuration again.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        raise WrongConfiguration(str(error)) from None
    wrong = check_environment(config)
    if wrong:
        raise Failure(f"{path}: {'; '.join(wrong)}")
    from mover.control.serve import run

    # What was imported lives as long as the process: a full collection, while every DMA waits, need not look at it.
    gc.collect()
    gc.freeze()
    context.exit(run(config, os.path.abspath(path)))
