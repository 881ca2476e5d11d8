"""Recover filehist: reads a dump stream and sends the file history that its backup would have sent; writes nothing."""

from mover.data.backup_history import HistorySender
from mover.data.dump_format import RECORD_BYTES, ROOT_INUMBER, RecordType
from mover.data.recover_catalogue import Catalogue, read_catalogue
from mover.data.recover_plan import Plan, make_plan
from mover.data.recover_report import RecoverReport, Request
from mover.data.recover_stream import RecordReader, is_map
from mover.ring import DataPhase
from mover.workers.data_messages import Pairs, Place, RecoverName

_EVERYTHING = RecoverName(original=b"", target=Place(b"", b""), reported=b"", node=0, fh_info=0)


class HistoryRecoverer:
    """The history of one stream."""

    def __init__(self, reader: RecordReader, report: RecoverReport, sender: HistorySender) -> None:
        self._reader = reader
        self._report = report
        self._sender = sender

    def run(self, env: Pairs) -> None:
        """Read the stream to its END and send all of its history.

        Args:
            env: of the operation; it may name the one dump that will do.

        Raises:
            StreamBroken, StreamRefused: as the reader does; what was read before has been sent.
            RingClosed: nobody takes the history.
        """
        try:
            catalogue = read_catalogue(self._reader, self._report, env)
            if not self._sender.by_path:
                self._send_names(catalogue)
            # As if everything were recovered to the root: a target's path is then the one that ADD_FILE wants.
            plan = make_plan(catalogue, [Request(_EVERYTHING)], self._report, recursive=True)
            self._send_directories(catalogue, plan)
            self._report.enter(DataPhase.FILES)
            self._send_objects(plan)
        finally:
            self._sender.flush()

    def _send_names(self, catalogue: Catalogue) -> None:
        """ADD_DIR for every directory, from the root down (backup-env.md 6.3)."""
        encode, directories = self._sender.encoder.dir_entry, catalogue.directories
        seen = {ROOT_INUMBER}
        stack = [(ROOT_INUMBER, ROOT_INUMBER)] if ROOT_INUMBER in directories else []
        while stack:
            inumber, above = stack.pop()
            names = catalogue.names(inumber)
            elements = [encode(b".", inumber, inumber), encode(b"..", above, inumber)]
            for child, name in zip(names.inumbers, names.names, strict=True):
                elements.append(encode(name, child, inumber))
                if child in directories and child not in seen:
                    seen.add(child)
                    stack.append((child, inumber))
            self._sender.add_dirs(elements)

    def _send_directories(self, catalogue: Catalogue, plan: Plan) -> None:
        elements = []
        for target in plan.targets:
            record = catalogue.directories[target.inumber]
            elements.append(self._sender.object_entry(target.path(), target.inumber, record.inode, record.offset))
            self._report.directories += 1
        if elements:
            self._sender.add_objects(elements)

    def _send_objects(self, plan: Plan) -> None:
        reader, inumbers = self._reader, plan.inumbers
        cursor = 0
        while True:
            header = reader.header()
            if header.type == RecordType.END:
                return
            if header.type == RecordType.INODE and not header.is_extension:
                offset = reader.offset - RECORD_BYTES
                while inumbers[cursor] < header.inumber:
                    cursor += 1
                elements = []
                while inumbers[cursor] == header.inumber:
                    path = plan.targets[plan.places[cursor]].path(plan.names[cursor])
                    elements.append(self._sender.object_entry(path, header.inumber, header.inode, offset))
                    if elements[1:]:
                        self._report.add_links()
                    else:
                        self._report.add_entry(header.inode.mode, header.inode.size)
                    cursor += 1
                # One node, and one path for each of its names.
                if elements:
                    self._sender.add_objects(elements if self._sender.by_path else elements[:1])
            reader.skip(header.records if is_map(header) else header.data_records)
