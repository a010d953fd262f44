import pytest

pytest.importorskip("pymilvus", reason="pymilvus is not installed: pip install nearlight[milvus]")

from nearlight.store import InvalidCollection, InvalidQuery
from nearlight.store.engines.expressions import AtLeast, Number, any_token
from nearlight.store.engines.milvus_filters import milvus_filter
from nearlight.store.engines.milvus_names import id_of_key, milvus_key, milvus_name, name_of
from nearlight.store.ids import id_of, key_of
from tests.store.filters import oracle


def test_names_come_back_and_do_not_meet() -> None:
    names = ["a", "A", "a.b", "a-b", "a_b", "a_2eb", "x" * 128, "_" * 60]
    coded = [milvus_name("nl_", name) for name in names]
    assert len(set(coded)) == len(names)
    assert [name_of("nl_", one) for one in coded] == names
    assert name_of("nl_", "other") is None
    assert all(one.replace("_", "").isalnum() for one in coded)
    with pytest.raises(InvalidCollection, match="in milvus it takes 303 characters of at most 255"):
        milvus_name("nl_", "." * 100)


def test_keys_come_back_in_the_order_of_the_embedded_store() -> None:
    ids = [*oracle.IDS, 7, "7", 2**63, "é", "z", "日本", "\U0001f415", "s", "i0"]
    assert [id_of_key(milvus_key(one)) for one in ids] == ids
    keys = sorted((key_of(one) for one in set(ids)), key=lambda key: (isinstance(key, str), key))
    assert sorted(milvus_key(one) for one in set(ids)) == [milvus_key(id_of(key)) for key in keys]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0"), (-0.5, "-0.5"), (1e300, "1.0e+300"), (5e-324, "5.0e-324"), (1.5e-7, "1.5e-07")],
)
def test_doubles_have_a_point(value: float, text: str) -> None:
    assert milvus_filter(Number("n", "h", "<", value)) == f'numbers["n"] < {text}'
    assert float(text) == value


def test_counting_is_written_out_as_long_as_it_is_short() -> None:
    a, b, c = (any_token(letter) for letter in "abc")
    spelled = milvus_filter(AtLeast(2, (a, b, c)))
    assert spelled.count("array_contains_any") == 5  # (a and (b or c)) or (b and c)
    with pytest.raises(InvalidQuery, match=r"min_should.* more than 4000 conditions"):
        milvus_filter(AtLeast(10, tuple(any_token(str(i)) for i in range(20))))
