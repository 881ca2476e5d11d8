"""The same tables once, as plain lines."""

from typing import Any  # Any: rows of any table

from rich.cells import cell_len

from mover.admin.statistics import StatisticsReply
from mover.cli.output import GAP
from mover.cli.top.drawing import Look, duration, rate, size
from mover.cli.top.view import View, sort_rows
from mover.cli.top.views import VIEWS, clock, totals


def plain_lines(reply: StatisticsReply, look: Look) -> list[str]:
    """The head, and each table that has rows."""
    sums = totals(reply, look)
    writes, reads = rate(sums.written_rate) or "0/s", rate(sums.read_rate) or "0/s"
    lines = [
        f"mover {reply.version} on {reply.node}, up {duration(reply.uptime_seconds)}, {clock(reply.time)}",
        f"sessions {len(reply.sessions)}, jobs {len(reply.jobs)} {rate(sums.stream_rate) or '0/s'}",
        f"tape writes {writes}, reads {reads}",
        f"CPU {sums.cpu:.0%}, memory {size(sums.resident_bytes)}; rates over {look.window} s",
    ]
    for view in VIEWS:
        if view.rows(reply):
            lines += ["", view.title, *_table(view, reply, look)]
    return [look.clean(line) for line in lines]


def _table(view: View[Any], reply: StatisticsReply, look: Look) -> list[str]:
    title, descending = view.sort
    rows = sort_rows(view.rows(reply), view.column(title), descending=descending)
    columns = [each for each in view.columns if not each.picture]
    cells = [[each.title for each in columns]]
    cells += [[look.clean(each.text(row, look, each.width)) for each in columns] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    fitted = [
        [look.fit(cell, width, right=each.right) for cell, width, each in zip(line, widths, columns, strict=True)]
        for line in cells
    ]
    return [GAP.join(line).rstrip() for line in fitted]
