"""The hash chain shows every edit, removal and move."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.kit.hash_chain import GENESIS, canonical_json, chain, digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@given(values)
def test_canonical_json_is_json_and_does_not_depend_on_order(value):
    assert json.loads(canonical_json(value)) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_the_form_is_fixed():
    assert canonical_json({"b": 1, "a": ["é", None, True]}) == '{"a":["é",null,true],"b":1}'.encode()
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), Decimal(1), {1: 2}, b"x", {"a": [object()]}, {"a": {2}}]
)
def test_what_has_no_one_form_is_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


def links(rows):
    previous, result = GENESIS, []
    for row in rows:
        previous = chain(previous, row)
        result.append((row, previous))
    return result


def first_broken(links):
    """The place of the first link that does not follow from the one before it."""
    follows = [GENESIS, *(stored for _, stored in links)]
    return next((at for at, (row, stored) in enumerate(links) if chain(follows[at], row) != stored), None)


@given(st.lists(values, min_size=2, max_size=8), st.data())
def test_any_edit_removal_or_move_breaks_the_chain(rows, data):
    whole = links(rows)
    assert first_broken(whole) is None
    at = data.draw(st.integers(0, len(rows) - 1))
    edited = [*whole[:at], ([whole[at][0]], whole[at][1]), *whole[at + 1 :]]
    assert first_broken(edited) == at
    if at < len(rows) - 1:
        assert first_broken([*whole[:at], *whole[at + 1 :]]) == at
        moved = [*whole[:at], whole[at + 1], whole[at], *whole[at + 2 :]]
        assert first_broken(moved) == at
