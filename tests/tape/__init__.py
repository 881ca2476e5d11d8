import pytest

pytest.register_assert_rewrite("tests.tape.contract", "tests.tape.tap")
