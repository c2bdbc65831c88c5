"""A clock that leaps and comes back costs the memory of used requests the time of one window, and opens nothing."""

from __future__ import annotations

from provider_federation.protocol import MemoryReplayStore

NOW, DAY = 1_790_000_000.0, 86_400.0


def test_a_leap_of_the_clock_shuts_nobody_out_for_its_length_and_lets_nothing_in_twice() -> None:
    store = MemoryReplayStore(capacity=4)
    for token in "abcd":
        assert store.remember("k", token, NOW + 300, NOW)
    assert store.remember("k", "leapt", NOW + DAY + 300, NOW + DAY)  # the four are dropped
    assert not any(store.remember("k", token, NOW + 300, NOW + 1) for token in "abcd")
    assert store.remember("k", "fresh", NOW + 301, NOW + 1)
