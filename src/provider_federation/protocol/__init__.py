"""Signing and verifying requests between the portal and an instance. Pure: no I/O, no clock, no framework.

The contract, section 2.5, fixes the names below. `sign` returns the headers to add; `verify` returns a
`Principal` or raises `Refused` and nothing else. How the bytes are made: docs/protocol.md.
"""

from provider_federation.protocol.core import sign, verify
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.replay import MemoryRatchet, MemoryReplayStore, Ratchet, ReplayStore
from provider_federation.protocol.responses import answer_key, sign_response, verify_response
from provider_federation.protocol.values import Key, Keyring, Policy, Principal, Request, Response

__all__ = [
    "CannotSign",
    "Key",
    "Keyring",
    "MemoryRatchet",
    "MemoryReplayStore",
    "Policy",
    "Principal",
    "Ratchet",
    "Refused",
    "ReplayStore",
    "Request",
    "Response",
    "answer_key",
    "sign",
    "sign_response",
    "verify",
    "verify_response",
]
