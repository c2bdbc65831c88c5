"""What leaves the process, into a log, a queue or another process, holds no secret that nobody asked for."""

from __future__ import annotations

import copy
import pickle

import pytest
from tests.unit.protocol.v2_world import HERE, MAC, NOW, refusal, signed

from provider_federation.adapters.signing import Signer
from provider_federation.protocol import Keyring, Refused

SECRET = MAC.secret


@pytest.mark.parametrize("travel", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy])
def test_a_refusal_that_travels_leaves_the_key_behind(travel) -> None:
    refused = refusal(signed(MAC), now=NOW + 1000)
    assert refused.signer == MAC
    assert SECRET not in pickle.dumps(refused)
    there = travel(refused)
    assert isinstance(there, Refused)
    assert (there.code, there.status, there.key_id) == (refused.code, refused.status, MAC.id)
    assert there.signer is None


def test_no_secret_is_shown() -> None:
    shown = [MAC, Keyring([MAC]), Signer(MAC, answers=(MAC,)), HERE, refusal(signed(MAC), now=NOW + 1000)]
    assert not any(SECRET.decode() in f"{one!r} {one}" for one in shown)
