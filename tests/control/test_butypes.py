"""What is told of each backup type is what it can do."""

import pytest

from mover.control.butypes import BUTYPES
from mover.ndmp.enums import ButypeAttribute


@pytest.mark.parametrize("butype", [b"dump", b"tar"])
def test_direct_access(butype: bytes) -> None:
    attributes = BUTYPES[butype].attributes
    assert ButypeAttribute.BACKUP_DIRECT in attributes
    assert ButypeAttribute.RECOVER_DIRECT in attributes
