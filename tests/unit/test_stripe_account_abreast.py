"""Calls go one after the other while they come back quickly, and side by side where they take long."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from provider_federation.stripe_account import abreast


def _names(at_once: int, count: int, barrier: threading.Barrier | None) -> list[tuple[int, str]]:
    """Each step with the thread that took it, in the order in which they were given back."""

    def take(step: Any) -> Any:
        if barrier is not None and step:
            barrier.wait(timeout=10)
        return step, threading.current_thread().name

    with abreast._mapping(at_once) as mapped:
        return list(mapped(take, range(count)))


def test_quick_calls_stay_in_the_callers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "_SLOW", math.inf)
    here = threading.current_thread().name
    assert _names(4, 9, None) == [(number, here) for number in range(9)]


def test_after_a_slow_one_the_rest_of_the_turn_goes_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "_SLOW", 0.0)
    taken = _names(3, 10, threading.Barrier(3))  # which nobody passes alone
    assert [step for step, _ in taken] == list(range(10))
    assert taken[0][1] == threading.current_thread().name
    assert {name[:6] for _, name in taken[1:]} == {"stripe"}


def test_one_at_a_time_is_one_at_a_time_however_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "_SLOW", 0.0)
    here = threading.current_thread().name
    assert _names(1, 5, None) == [(number, here) for number in range(5)]
