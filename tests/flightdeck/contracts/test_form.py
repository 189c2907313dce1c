from hypothesis import given
from hypothesis import strategies as st

from flightdeck.contracts.form import parse_contract
from flightdeck.contracts.stage import StageContract
from tests.flightdeck.contracts.project import good_contract

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_good_contract_is_read_without_a_word() -> None:
    contract, problems = parse_contract(good_contract())
    assert problems == []
    assert contract.inputs[0].kept_in == "catalog"


@given(content=VALUES)
def test_whatever_yaml_holds_is_read_or_named(content: object) -> None:
    contract, problems = parse_contract(content)
    assert isinstance(contract, StageContract)
    assert problems or isinstance(content, dict)


@given(key=st.sampled_from(list(good_contract())), value=VALUES)
def test_one_broken_field_leaves_the_others_readable(key: str, value: object) -> None:
    contract, _ = parse_contract(good_contract() | {key: value})
    others = set(good_contract()) - {key}
    expected, _ = parse_contract(good_contract())
    assert all(getattr(contract, name) == getattr(expected, name) for name in others)
