"""The commands `mover dumpdates`: what incremental backups are based on. All of it blocks."""

from mover.admin import dump_dates
from mover.admin import messages as a
from mover.control.dump_dates import DumpDates
from mover.control.dump_index import Record, Tree
from mover.control.dump_transfer import TransferError, export_dates, import_dates
from mover.control.volumes import show


def list_dates(dates: DumpDates) -> dump_dates.DumpDatesReply | a.Failed:
    """All dates that count, the oldest first."""
    dates.wait_for_ends()
    try:
        return dump_dates.DumpDatesReply([_status(each) for each in dates.records() if not each.provisional])
    except OSError as error:
        return a.Failed("failed", f"{error.filename}: {error.strerror}")


def _status(record: Record) -> dump_dates.DumpDateStatus:
    return dump_dates.DumpDateStatus(
        butype=record.tree.butype,
        filesystem=_shown(record.tree),
        level=record.level,
        full=record.dumped_level == 0,
        date=record.date,
        dump_date=str(record.dump_date) if record.by_token else "",
        table_bytes=record.table_bytes,
    )


def delete(dates: DumpDates, request: dump_dates.DumpDatesDelete) -> a.Done | a.Failed:
    """Forget the dates that fit."""

    def fits(record: Record) -> bool:
        return (
            _shown(record.tree) == request.filesystem
            and request.butype in {None, record.tree.butype}
            and request.level in {None, record.level}
            and (request.dump_date is None or (record.by_token and str(record.dump_date) == request.dump_date))
        )

    try:
        gone = dates.delete(fits)
    except OSError as error:
        return a.Failed("failed", f"{error.filename}: {error.strerror}")
    if not gone:
        return a.Failed("not-found", f"there is no such dump date of {request.filesystem}")
    return a.Done(f"{_count(gone)} of {request.filesystem} forgotten", [str(each.date) for each in gone])


def write_file(dates: DumpDates, request: dump_dates.DumpDatesExport) -> a.Done | a.Failed:
    """Write all dates into a file."""
    try:
        records = export_dates(dates, request.path)
    except TransferError as error:
        return a.Failed("failed", str(error))
    return a.Done(f"{_count(records)} written to {request.path}", _filesystems(records))


def read_file(dates: DumpDates, request: dump_dates.DumpDatesImport) -> a.Done | a.Failed:
    """Take the dates of a file."""
    try:
        records, kept = import_dates(dates, request.path)
    except TransferError as error:
        return a.Failed("failed", str(error))
    text = f"{_count(records)} taken from {request.path}"
    for tree in kept:
        text += f"; {_shown(tree)} ({tree.butype}) is left as it is: its latest date here is later"
    return a.Done(text, _filesystems(records))


def _filesystems(records: list[Record]) -> list[str]:
    return sorted({_shown(each.tree) for each in records})


def _shown(tree: Tree) -> str:
    """The directory, with the name of the backup where that is of several subtrees in it."""
    return f"{show(tree.filesystem)}:{show(tree.name)}" if tree.name else show(tree.filesystem)


def _count(records: list[Record]) -> str:
    return f"{len(records)} dump date{'' if len(records) == 1 else 's'}"
