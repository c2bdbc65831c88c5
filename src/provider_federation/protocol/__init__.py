"""Signing and verifying requests between the portal and an instance. Pure: no I/O, no clock, no framework.

The contract, section 2.5, fixes the names below. `sign` returns the headers to add; `verify` returns a
`Principal` or raises `Refused` and nothing else. How the bytes are made: docs/protocol.md.
"""

from provider_federation.protocol.core import sign, verify
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.replay import MemoryReplayStore, ReplayStore
from provider_federation.protocol.values import Key, Keyring, Policy, Principal, Request

__all__ = [
    "Key",
    "Keyring",
    "MemoryReplayStore",
    "Policy",
    "Principal",
    "Refused",
    "ReplayStore",
    "Request",
    "sign",
    "verify",
]
