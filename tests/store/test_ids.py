import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.store import InvalidPoint, PointId
from nearlight.store.ids import id_of, key_of

ids = st.one_of(
    st.integers(0, 2**64 - 1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)
)


@given(ids)
def test_a_key_gives_its_id_back(point_id: PointId) -> None:
    back = id_of(key_of(point_id))
    assert back == point_id
    assert type(back) is type(point_id)


@given(st.integers(0, 2**64 - 1))
def test_integer_keys_fit_sqlite(number: int) -> None:
    key = key_of(number)
    assert isinstance(key, int)
    assert -(2**63) <= key < 2**63


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_integer_keys_keep_the_order(a: int, b: int) -> None:
    assert (key_of(a) < key_of(b)) == (a < b)  # type: ignore[operator]  # both are integers


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "id is 0 bytes long; the limit is 1 to 512 bytes"),
        ("x" * 513, "id is 513 bytes long; the limit is 1 to 512 bytes"),
        ("é" * 257, "id is 514 bytes long"),
        ("\ud800", r"id is '\\ud800'; it must be valid Unicode"),
        (-1, "id is -1; an integer id must be in 0..2"),
        (2**64, "id is 18446744073709551616; an integer id"),
        (True, "id is True .bool.; it must be a string or an integer"),
        (1.0, "id is 1.0 .float.; it must be a string or an integer"),
        (None, "id is None .NoneType."),
        (b"x", "id is b'x' .bytes."),
    ],
)
def test_a_bad_id_is_refused_by_name_value_and_limit(bad: PointId, message: str) -> None:
    with pytest.raises(InvalidPoint, match=message) as caught:
        key_of(bad, 3)
    assert str(caught.value).startswith("points[3].id ")
    assert caught.value.index == 3


def test_the_longest_id_is_accepted() -> None:
    assert key_of("é" * 256) == "é" * 256
