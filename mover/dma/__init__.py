"""The built-in DMA: an NDMP client and the jobs it runs.

The door (errors are `DmaError`s with a text of one line; cancelling a run aborts the job on the servers, in
bounded time):

`await run_backup(options: BackupOptions, *, progress=None, log=None) -> BackupResult`;
`await run_recover(options: RecoverOptions, *, progress=None, log=None) -> RecoverResult`: names that failed are
  in the result, only a recover that failed as a whole raises;
`await run_copy(options: CopyOptions, *, progress=None, log=None) -> CopyResult`: as run_recover, without a tape;
`await run_list(options: ListOptions, *, progress=None, log=None) -> ListResult`.

`progress` is called with a `Progress` about once a second, `log` with each `LogLine` as it comes.
`compare` stands apart: it compares two trees.
"""

from mover.dma.backup import run_backup
from mover.dma.copy import run_copy
from mover.dma.errors import (
    CartridgeFullError,
    CatalogueError,
    ControlConnectionError,
    DmaError,
    JobError,
    LoginError,
    NdmpError,
)
from mover.dma.listing import run_list
from mover.dma.options import (
    BackupOptions,
    CopyOptions,
    Credentials,
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
    CopyResult,
    Entry,
    FailedName,
    Job,
    ListResult,
    LogLine,
    Progress,
    RecoverResult,
)

__all__ = [
    "BackupOptions",
    "BackupResult",
    "CartridgeFullError",
    "CatalogueError",
    "ControlConnectionError",
    "CopyOptions",
    "CopyResult",
    "Credentials",
    "DmaError",
    "Entry",
    "FailedName",
    "Job",
    "JobError",
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
    "default_catalogue",
    "run_backup",
    "run_copy",
    "run_list",
    "run_recover",
]
