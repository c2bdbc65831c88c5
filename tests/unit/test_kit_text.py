"""Other people's words can always be stored and shown."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from provider_federation.kit.text import clean_text

ANY = st.text(st.characters(codec=None, categories=None), max_size=60)


@given(ANY, st.integers(min_value=1, max_value=50))
def test_nothing_hidden_is_left_and_it_is_never_longer(words: str, longest: int) -> None:
    clean = clean_text(words, longest)
    assert len(clean) <= longest
    clean.encode()  # no lone surrogate
    assert not any(unicodedata.category(one) == "Cc" for one in clean)
    assert not any(
        unicodedata.bidirectional(one) in {"LRO", "RLO", "LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI"}
        for one in clean
    )
    assert clean_text(clean, longest) == clean


def test_plain_words_stay_as_they_are() -> None:
    assert clean_text("Grüße, 東京 👍 “quoted” - a\u00a0b", 100) == "Grüße, 東京 👍 “quoted” - a\u00a0b"
    assert clean_text("a\nb\x00c\u202ed", 100) == "a b c d"
    assert clean_text("x" * 11, 10) == "x" * 9 + "…"
