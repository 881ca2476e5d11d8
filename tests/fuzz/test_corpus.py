"""Every stored input and every find of the fuzzer, once more."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import targets

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("target", targets.TARGETS)
def test_stored_inputs_pass(target: str) -> None:
    paths = targets.stored(target)
    assert paths, "there is a corpus"
    failed: dict[str, Exception] = {}

    def judge(data: bytes, failure: Exception | None) -> None:
        if failure is not None:
            failed[data.hex()] = failure

    targets.run(target, [path.read_bytes() for path in paths], judge)
    assert failed == {}


def report() -> ModuleType:
    """scripts/fuzz_report.py, which is no package."""
    spec = importlib.util.spec_from_file_location("fuzz_report", CHECKOUT / "scripts" / "fuzz_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_tells_what_is_stored() -> None:
    module = report()
    page = (CHECKOUT / "docs" / "protocol-tests.md").read_text()
    table = module.load(CHECKOUT / "docs").table()
    assert f"{module.BEGIN}\n{table}\n{module.END}" in page
