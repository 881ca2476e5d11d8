"""`mover explain` on the command line."""

import msgspec.json

from tests.cli.conftest import Run


def test_a_code_is_explained(mover: Run) -> None:
    result = mover("explain", "NDMP4_DEVICE_BUSY_ERR")
    assert result.exit_code == 0
    assert result.output.startswith("DEVICE_BUSY_ERR (2)\n  is    ")
    assert "mover tape show" in result.output


def test_a_pasted_line_needs_no_quotes(mover: Run) -> None:
    result = mover("explain", "[warning", "]", "login", "failed", "user=x")
    assert result.exit_code == 0
    assert result.output.startswith("login failed\n")


def test_all_codes_are_listed_and_searched(mover: Run) -> None:
    every = msgspec.json.decode(mover("explain", "--json").output)["entries"]
    assert {"code", "kind", "meaning", "action", "number", "source"} == set(every[0])
    some = msgspec.json.decode(mover("explain", "--search", "cartridge", "--json").output)["entries"]
    assert 0 < len(some) < len(every)
    assert "DEVICE_BUSY_ERR" in mover("explain").output


def test_what_is_not_known_is_one_line_and_wrong_usage(mover: Run) -> None:
    result = mover("explain", "DEVICE_BUSSY_ERR")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean DEVICE_BUSY_ERR" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in mover("explain", "\x1b[31m").stderr
    assert mover("explain", "2", "--search", "busy").exit_code == 2
