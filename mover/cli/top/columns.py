"""Columns of the live view by what is in their cells; see :class:`mover.cli.top.view.Column` for the rest."""

from collections.abc import Callable
from typing import TypeVar

from mover.admin.statistics import Rates
from mover.cli.top.drawing import Look, count, duration, rate, size
from mover.cli.top.view import Column, Tone

R = TypeVar("R")


def words(
    title: str,
    width: int,
    get: Callable[[R], str],
    *,
    rank: int = 0,
    flexible: bool = False,
    tone: Callable[[R], Tone] | None = None,
) -> Column[R]:
    """As they are."""
    return Column(
        title=title, width=width, rank=rank, flexible=flexible, text=lambda row, *_: get(row), key=get, tone=tone
    )


def numbers(title: str, width: int, get: Callable[[R], int | None], *, rank: int = 0) -> Column[R]:
    """Digit by digit; None = an empty cell."""
    return Column(title=title, width=width, right=True, rank=rank, text=lambda row, *_: number(get(row)), key=get)


def counts(title: str, width: int, get: Callable[[R], int], *, rank: int = 0) -> Column[R]:
    """With the thousands apart, or short where they are many."""
    return Column(title=title, width=width, right=True, rank=rank, text=lambda row, *_: count(get(row)), key=get)


def sizes(title: str, width: int, get: Callable[[R], int], *, rank: int = 0) -> Column[R]:
    """Bytes."""
    return Column(title=title, width=width, right=True, rank=rank, text=lambda row, *_: size(get(row)), key=get)


def durations(title: str, width: int, get: Callable[[R], float | None], *, rank: int = 0) -> Column[R]:
    """Seconds."""
    return Column(title=title, width=width, right=True, rank=rank, text=lambda row, *_: duration(get(row)), key=get)


def rates(title: str, width: int, get: Callable[[R], Rates], *, rank: int = 0) -> Column[R]:
    """Bytes a second, over the time that the view looks at; sorted by the last ten seconds."""

    def text(row: R, look: Look, _: int) -> str:
        return rate(look.over(get(row)))

    return Column(title=title, width=width, right=True, rank=rank, text=text, key=lambda row: get(row).over_10)


def number(value: int | None) -> str:
    """None = nothing."""
    return "" if value is None else str(value)
