"""Byte strings in one piece, against a list."""

from hypothesis import given
from hypothesis import strategies as st

from mover.data.byte_strings import ByteStrings

STRINGS = st.binary(max_size=6)


@given(steps=st.lists(st.one_of(STRINGS, st.tuples(STRINGS), st.none()), max_size=30))
def test_as_a_list(steps: list[bytes | tuple[bytes] | None]) -> None:
    """A string is appended, one in a tuple put in place of the last, None takes the last back."""
    strings, model = ByteStrings("I"), list[bytes]()
    for step in steps:
        if isinstance(step, bytes):
            strings.append(step)
            model.append(step)
        elif model and step is None:
            strings.pop()
            model.pop()
        elif model and step is not None:
            strings.put_last(step[0])
            model[-1] = step[0]
    assert len(strings) == len(model)
    assert [strings[place] for place in range(len(model))] == model
    assert [strings.length(place) for place in range(len(model))] == list(map(len, model))
    assert bytes(strings.joined) == b"".join(model)
