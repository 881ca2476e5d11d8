"""A request that is not done: the error of its reply, and a line for people."""

from mover.ndmp.enums import ErrorCode


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Raised by a handler; becomes the reply's error, and a LOG message when there is a text."""

    def __init__(self, error: int, text: str = "") -> None:
        super().__init__(text or ErrorCode(error).name)
        self.error = ErrorCode(error)
        self.text = text
