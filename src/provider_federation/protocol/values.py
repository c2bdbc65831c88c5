"""What goes in and what comes out: requests, keys, policies, principals. Frozen values, checked when made."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple

from provider_federation.protocol import primitives

LEGACY_ALGORITHMS = ("h31", "sha256")
MODERN_ALGORITHMS = ("hmac-sha256", "ed25519")
ALGORITHMS = LEGACY_ALGORITHMS + MODERN_ALGORITHMS
SCOPES = ("read", "provider")

ED25519_BYTES = 32
_ED25519_PRIME = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The points whose order divides 8, by their y (RFC 8032, section 5.1): every message has a good signature by them.
_LOW_ORDER = frozenset({0, 1, _ED25519_PRIME - 1, _ORDER_8, _ED25519_PRIME - _ORDER_8})

# Visible ASCII without what a list, a structured string or a joined header would give a meaning to: , " \
IDENTIFIER = re.compile(r"[!#-+\--\[\]-~]{1,128}", re.ASCII)
_AUTHORITY = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = frozenset({"80", "443"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was, or will be, on the wire.

    `target` is path and query exactly as sent; `authority` host[:port]; `headers` every header in order,
    duplicates included, values decoded as latin-1; `body` the raw bytes. `peer` is the address of the
    socket's other end: "" when the server does not know it, None when there was no socket (`h31` asks).
    """

    method: str
    target: str
    authority: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: str | None = None


class Head(NamedTuple):
    """A request without its headers, for who has them in another form: quicker to make than a Request."""

    method: str
    target: str
    authority: str
    body: bytes
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One response as it was, or will be, on the wire: `headers` and `body` as in `Request`."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Key:
    """A key: its name, how it signs, how far it reaches, and when. ValueError when that makes no sense.

    `algorithm` is h31, sha256, hmac-sha256 or ed25519. For ed25519 `secret` is the signer's 32-byte seed and
    `public_key` the verifier's 32 bytes; the others share `secret`. `scope` is the ceiling, read or provider.
    `not_before` and `not_after` are seconds since 1970 UTC, both included. `instance` and `org` bind the key.
    `pair` names the portal and instance it belongs to, for the ratchet; "" is a deployment's only portal.
    """

    id: str
    algorithm: str
    secret: bytes = field(default=b"", repr=False)
    public_key: bytes = b""
    scope: str = "provider"
    not_before: float | None = None
    not_after: float | None = None
    instance: str | None = None
    org: str | None = None
    revoked: bool = False
    pair: str = ""
    # What is worked out from these, once: it lives as long as the key does, and is never shown, compared or copied.
    # All keys have all of it in one order, so that the interpreter finds each at its place.
    mac: Callable[[bytes], hashlib._Hash] = field(init=False, repr=False, compare=False)
    """HMAC-SHA256 by `secret`."""
    h31: Callable[[bytes], int] = field(init=False, repr=False, compare=False)
    """h31 by `secret`."""
    is_limited: bool = field(init=False, repr=False, compare=False)
    """Whether it is revoked or has days, so that somebody has to look."""
    last: tuple[Any, Any, Any, Any] = field(init=False, repr=False, compare=False)
    """The shape of the last request with a good signature, the policy, what was said, and the Principal: `quick`'s."""
    _ed25519: tuple[bytes, bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.id):
            raise ValueError('a key id is 1 to 128 visible ASCII characters without , " or \\')
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"a key's algorithm is one of {', '.join(ALGORITHMS)}")
        if self.scope not in SCOPES:
            raise ValueError("a key's scope is read or provider")
        _check_names(self.instance, self.org)
        self._check_material()
        is_shared = self.algorithm != "ed25519"
        derived = {
            "mac": primitives.hmac_sha256(self.secret) if is_shared else primitives.no_mac,
            "h31": primitives.h31(self.secret) if self.algorithm == "h31" else primitives.no_mac,
            "is_limited": self.revoked or self.not_before is not None or self.not_after is not None,
            "last": (None, None, None, None),
            "_ed25519": None,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _check_material(self) -> None:
        if self.algorithm != "ed25519":
            if not self.secret or self.public_key:
                raise ValueError(f"a key for {self.algorithm} has a secret and no public key")
            return
        material = [part for part in (self.secret, self.public_key) if part]
        if not material or any(len(part) != ED25519_BYTES for part in material):
            raise ValueError("a key for ed25519 has a seed of 32 bytes, a public key of 32 bytes, or both")
        if self.public_key and not _is_sound_point(self.public_key):
            raise ValueError("this ed25519 public key is of low order or not canonical; no signer has it")

    @property
    def ed25519(self) -> tuple[bytes, bytes]:
        """What verifies and what signs, of a key that has its seed. Needs PyNaCl, and so is made when it is asked for."""
        if self._ed25519 is None:
            object.__setattr__(self, "_ed25519", primitives.ed25519_pair(self.secret))
        assert self._ed25519 is not None
        return self._ed25519

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, ({one.name: getattr(self, one.name) for one in fields(self) if one.init},)


def _made_again(values: dict[str, Any]) -> Key:
    return Key(**values)


def _check_names(instance: str | None, org: str | None) -> None:
    """ValueError where no request could name them; an empty one would be open to all."""
    for what, name in (("instance", instance), ("org", org)):
        if name is not None and not IDENTIFIER.fullmatch(name):
            raise ValueError(f'an {what} is None, or 1 to 128 visible ASCII characters without , " or \\')


def _is_sound_point(public_key: bytes) -> bool:
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    return y < _ED25519_PRIME and y not in _LOW_ORDER


class Keyring:
    """The keys a verifier knows, by id. ValueError when one id stands for two keys."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_id: dict[str, Key] = {}
        for key in keys:
            if key.id in self._by_id:
                raise ValueError(f"the key id {key.id} stands for two keys")
            self._by_id[key.id] = key

    def get(self, key_id: str) -> Key | None:
        """The key of that id, or None."""
        return self._by_id.get(key_id)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


@dataclass(frozen=True)
class Policy:
    """What a verifier accepts.

    `instance` and `org` are who it is; without `instance`, and without one in the key, a request that was signed for
    another instance is taken here. `authorities` are the hosts it answers to (none: any; the legacy scheme cannot tell);
    `accept` the algorithms; `skew` seconds to either side of its clock, both edges included. `development`
    allows h31 from this machine. From `legacy_until` (seconds since 1970 UTC) on, h31 and sha256 are refused.
    Sizes are bytes, but `max_headers` counts.
    """

    instance: str | None = None
    authorities: tuple[str, ...] = ()
    accept: tuple[str, ...] = MODERN_ALGORITHMS
    skew: float = 300
    development: bool = False
    org: str | None = None
    legacy_until: float | None = None
    max_body: int = 1_048_576
    max_header: int = 8_192
    max_headers: int = 100

    def __post_init__(self) -> None:
        unknown = set(self.accept) - set(ALGORITHMS)
        if unknown:
            raise ValueError(f"accept names algorithms that do not exist: {', '.join(sorted(unknown))}")
        if not 0 <= self.skew < math.inf:
            raise ValueError("skew is a number of seconds")
        authorities: object = self.authorities
        if isinstance(authorities, str):
            problem = (
                'authorities is a tuple, such as ("acme.example",): of one text each letter would be a host'
            )
            raise ValueError(problem)  # noqa: TRY004  one kind of error for what makes no sense
        _check_names(self.instance, self.org)
        object.__setattr__(self, "authorities", tuple(map(normal_authority, self.authorities)))


@lru_cache(maxsize=512)
def normal_authority(authority: str) -> str:
    """`@authority` (RFC 9421, section 2.2.3): lower case, without a default port. ValueError when it is none.

    A request does not know its scheme, so that 80 and 443 both count as the default.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("an authority is a host, with a port or without")
    host, port = match[1].lower(), match[2]
    return host if port is None or port in _DEFAULT_PORTS else f"{host}:{port}"


class Principal(NamedTuple):
    """Who sent the request: proven, within the key's ceiling. `instance` is the audience, if known.

    `scheme` is legacy or v2.
    """

    key_id: str
    scope: str
    org: str | None
    algorithm: str
    instance: str | None = None
    scheme: str = "legacy"

    @property
    def may_write(self) -> bool:
        """`read` may call read routes only (contract, section 1)."""
        return self.scope == "provider"
