"""A head is proven before its body is read; whoever holds the body back gains no time by that."""

from __future__ import annotations

import pytest
from tests.unit.protocol.v2_world import HERE, JSON, MAC, NOW, OLD, RING, signed

from provider_federation.protocol import Key, MemoryReplayStore, Refused, core

LONG = 10_000.0


@pytest.mark.parametrize(("key", "code"), [(MAC, "bad_expires"), (OLD, "timestamp_out_of_window")])
def test_a_body_that_comes_after_the_signature_is_over_is_refused(key: Key, code: str) -> None:
    request = signed(key, b"{}", JSON)
    claim = core.check_head(request, RING, HERE, NOW)
    with pytest.raises(Refused) as caught:
        core.finish(claim, b"{}", HERE, now=NOW + LONG, replay=MemoryReplayStore())
    assert (caught.value.code, caught.value.key_id) == (code, key.id)


@pytest.mark.parametrize("key", [MAC, OLD])
def test_a_body_that_comes_in_time_is_taken(key: Key) -> None:
    claim = core.check_head(signed(key, b"{}", JSON), RING, HERE, NOW)
    assert core.finish(claim, b"{}", HERE, now=NOW + 299, replay=MemoryReplayStore()).key_id == key.id
