"""What cells of the live view are made of: sizes, rates, gauges and sparklines, in Unicode or in ASCII."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct
from rich.cells import cell_len, set_cell_size

from mover.admin.statistics import Rates
from mover.cli.output import printable

Window = Literal[1, 10, 60]
WINDOWS: Final[tuple[Window, ...]] = (1, 10, 60)


class Glyphs(Struct, frozen=True):
    """The letters that pictures are drawn with.

    Attributes:
        bar: a cell of a gauge, from empty to full.
        spark: a sample, from nothing to the most.
        cut: ends what does not fit.
    """

    bar: str
    spark: str
    ascending: str
    descending: str
    cut: str


UNICODE: Final = Glyphs(bar="·▏▎▍▌▋▊▉█", spark=" ▁▂▃▄▅▆▇█", ascending="▲", descending="▼", cut="…")
ASCII: Final = Glyphs(bar=".#", spark=" .:-=+*#", ascending="+", descending="-", cut="~")


class Look(Struct, frozen=True):
    """How cells are drawn.

    Attributes:
        window: seconds that rates are over.
    """

    glyphs: Glyphs = UNICODE
    window: Window = 10

    def clean(self, text: str) -> str:
        """The text, which may be anybody's, as this terminal can show it and cannot obey it."""
        shown = printable(text)
        return shown if self.glyphs is not ASCII else shown.encode("ascii", "backslashreplace").decode()

    def fit(self, text: str, width: int, *, right: bool = False) -> str:
        """Exactly ``width`` cells; what is cut off shows."""
        length = cell_len(text)
        if length > width:
            return set_cell_size(text, width - 1) + self.glyphs.cut if width > 0 else ""
        blanks = " " * (width - length)
        return blanks + text if right else text + blanks

    def over(self, rates: Rates) -> float:
        """The rate over the window."""
        return {1: rates.over_1, 10: rates.over_10, 60: rates.over_60}[self.window]

    def gauge(self, fraction: float | None, width: int) -> str:
        """A bar with its percentage; the percentage alone where there is no room. "" for None."""
        if fraction is None:
            return ""
        fraction = min(1.0, max(0.0, fraction))
        percent = f"{int(fraction * 100)}%"  # never 100 % before the end
        cells = width - 5
        if cells < 3:
            return percent
        steps = len(self.glyphs.bar) - 1
        full, part = divmod(int(fraction * cells * steps), steps)
        bar = self.glyphs.bar[-1] * full + (self.glyphs.bar[part] if full < cells else "")
        return bar.ljust(cells, self.glyphs.bar[0]) + percent.rjust(5)

    def sparkline(self, samples: Sequence[float], width: int, most: float = 0.0) -> str:
        """The latest samples, a cell each, against ``most`` or the largest of them."""
        latest = samples[-width:] if width > 0 else []
        most = most or max(latest, default=0.0)
        top = len(self.glyphs.spark) - 1
        if most <= 0:
            return self.glyphs.spark[0] * len(latest)
        # What is not nothing shows.
        return "".join(
            self.glyphs.spark[0 if each <= 0 else max(1, min(top, round(each / most * top)))] for each in latest
        )


def utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale's terminal takes UTF-8."""
    name = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    return name.lower().replace("-", "").partition(".")[2].startswith("utf8")


def started_environment() -> dict[str, str]:
    """The environment that this process was given: Python changes LC_CTYPE in its own where the locale is C."""
    with open("/proc/self/environ", "rb") as file:
        pairs = (each.partition(b"=") for each in file.read().split(b"\0"))
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def size(count: float) -> str:
    """Bytes in at most five cells, in powers of 1024."""
    for unit in ("B", "K", "M", "G", "T"):
        if count < 999.5:
            return f"{count:.0f}{unit}" if unit == "B" or count >= 99.95 else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.0f}P"


def rate(bytes_s: float) -> str:
    """Bytes a second; "" for nothing, so that what moves is seen."""
    return f"{size(bytes_s)}/s" if bytes_s >= 0.5 else ""


def count(number: int) -> str:
    """A number of things, with its thousands apart."""
    return f"{number:,}" if number < 10_000_000 else f"{number / 1e6:,.1f}M"


def duration(seconds: float | None) -> str:
    """Seconds as M:SS, H:MM:SS or days; "" for None."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 100 * 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400}d {whole // 3600 % 24}h"
