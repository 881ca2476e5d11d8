"""The built-in DMA: an NDMP client and the jobs it runs.

The door (errors are `DmaError`s with a text of one line; cancelling a run aborts the job on the servers, in
bounded time):

`await run_backup(options: BackupOptions, *, progress=None, log=None) -> BackupResult`;
`await run_recover(options: RecoverOptions, *, progress=None, log=None) -> RecoverResult`: names that failed are
  in the result, only a recover that failed as a whole raises;
`await run_copy(options: CopyOptions, *, progress=None, log=None) -> CopyResult`: as run_recover, without a tape;
`await run_list(options: ListOptions, *, progress=None, log=None) -> ListResult`;
`await run_label(options: LabelOptions, *, progress=None, log=None) -> LabelResult`,
`await run_inventory(options: InventoryOptions, *, progress=None, log=None) -> InventoryResult`,
`await run_cartridges(catalogue) -> list[CartridgeInfo]`: cartridges by the changer, and as the catalogue has them.

`progress` is called with a `Progress` about once a second, `log` with each `LogLine` as it comes.
`compare` stands apart: it compares two trees.
"""

from mover.dma.backup import run_backup
from mover.dma.cartridge_jobs import run_cartridges, run_inventory, run_label
from mover.dma.copy import run_copy
from mover.dma.errors import (
    CartridgeError,
    CartridgeFullError,
    CatalogueError,
    ChangerError,
    ControlConnectionError,
    DmaError,
    JobError,
    LoginError,
    NdmpError,
)
from mover.dma.listing import run_list
from mover.dma.options import (
    DEFAULT_PORT,
    SECURE_PORT,
    BackupOptions,
    CopyOptions,
    Credentials,
    InventoryOptions,
    LabelOptions,
    ListOptions,
    Place,
    RecoverOptions,
    Server,
    TapeListOptions,
    default_catalogue,
)
from mover.dma.recover import run_recover
from mover.dma.results import (
    BackupResult,
    CartridgeInfo,
    CopyResult,
    ElementContents,
    Entry,
    FailedName,
    InventoryResult,
    Job,
    LabelledCartridge,
    LabelResult,
    ListResult,
    LogLine,
    Progress,
    RecoverResult,
)
from mover.ndmp.secure import Tls

__all__ = [
    "DEFAULT_PORT",
    "SECURE_PORT",
    "BackupOptions",
    "BackupResult",
    "CartridgeError",
    "CartridgeFullError",
    "CartridgeInfo",
    "CatalogueError",
    "ChangerError",
    "ControlConnectionError",
    "CopyOptions",
    "CopyResult",
    "Credentials",
    "DmaError",
    "ElementContents",
    "Entry",
    "FailedName",
    "InventoryOptions",
    "InventoryResult",
    "Job",
    "JobError",
    "LabelOptions",
    "LabelResult",
    "LabelledCartridge",
    "ListOptions",
    "ListResult",
    "LogLine",
    "LoginError",
    "NdmpError",
    "Place",
    "Progress",
    "RecoverOptions",
    "RecoverResult",
    "Server",
    "TapeListOptions",
    "Tls",
    "default_catalogue",
    "run_backup",
    "run_cartridges",
    "run_copy",
    "run_inventory",
    "run_label",
    "run_list",
    "run_recover",
]
