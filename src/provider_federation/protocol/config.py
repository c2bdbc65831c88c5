"""The environment of the original app, read once at start: docs/protocol.md lists the variables.

Anything that cannot be meant stops the process with a message that names the variable and never a secret.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from provider_federation.protocol.material import is_weak, key_material
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.signing import public_key
from provider_federation.protocol.values import (
    IDENTIFIER,
    LEGACY_ALGORITHMS,
    MODERN_ALGORITHMS,
    Key,
    Keyring,
    Policy,
)

KEYS = "PROVIDER_KEYS_JSON"
RESPONSE_KEY = "PROVIDER_RESPONSE_KEY_JSON"
ENABLED = "PROVIDER_FEDERATION_ENABLED"
SKEW = "PROVIDER_CLOCK_SKEW_SEC"
SIG_SHA256 = "PROVIDER_FEDERATION_SIG_SHA256"
ENVIRONMENT = "PROVIDER_FEDERATION_ENV"
LEGACY_UNTIL = "PROVIDER_LEGACY_UNTIL"

_LONGEST_JSON = 1_000_000
_FIELDS = frozenset({
    "secret", "public_key", "algorithm", "scope", "not_before", "not_after", "instance", "org", "revoked"
})  # fmt: skip


class ConfigurationError(ValueError):
    """A setting that stops the process at start. `variable` is its name; no message holds a secret.

    `code` is one of config_invalid, config_h31_in_production, config_weak_secret, config_secret_reuse,
    config_response_key_missing, config_ed25519_not_installed.
    """

    def __init__(self, variable: str, message: str, code: str = "config_invalid") -> None:
        super().__init__(f"{variable}: {message}")
        self.variable = variable
        self.code = code


@dataclass(frozen=True)
class Configuration:
    """What an instance is told about federation.

    `enabled` False means that a signed request is an anonymous one. `scheme` is the weakest that a key
    needs (h31, sha256 or v2), and without keys what a plain-string key means. `development` was explicit.
    `response_key` is the ed25519 key with which this deployment signs its answers, if it has one.
    """

    enabled: bool
    keyring: Keyring = field(repr=False)
    policy: Policy
    scheme: str
    development: bool
    response_key: Key | None = None

    @property
    def mode(self) -> str:
        """What the anonymous status shows: off, h31, sha256 or v2."""
        return self.scheme if self.enabled else "off"


def read_environment(values: Mapping[str, str]) -> Configuration:
    """The configuration in `values` (os.environ, say). Raises ConfigurationError."""
    development = values.get(ENVIRONMENT, "") == "development"
    plain = "sha256" if _flag(values, SIG_SHA256) else "h31"
    instance = _own_name(values, "INSTANCE_NAME")
    keys = tuple(_keys(values.get(KEYS, ""), plain, instance))
    response_key = _response_key(values.get(RESPONSE_KEY, ""))
    _check_safety(keys, response_key, development=development)
    enabled = _flag(values, ENABLED)
    if enabled and response_key is None and any(key.algorithm == "ed25519" for key in keys):
        message = "is not set; requests signed with ed25519 are answered signed, so this process needs a key"
        raise ConfigurationError(RESPONSE_KEY, message, "config_response_key_missing")
    policy = Policy(
        instance=instance,
        org=_own_name(values, "INSTANCE_ORG_ID"),
        accept=_accepted(keys),
        skew=_skew(values),
        development=development,
        legacy_until=_legacy_until(values),
    )
    return Configuration(enabled, Keyring(keys), policy, _scheme(keys, plain), development, response_key)


def _accepted(keys: Iterable[Key]) -> tuple[str, ...]:
    """The modern ones always; a legacy one only where a key needs it."""
    used = {key.algorithm for key in keys}
    return MODERN_ALGORITHMS + tuple(name for name in LEGACY_ALGORITHMS if name in used)


def _scheme(keys: tuple[Key, ...], plain: str) -> str:
    """The weakest scheme in use: that is what a banner has to talk about."""
    used = {key.algorithm for key in keys}
    return next((name for name in LEGACY_ALGORITHMS if name in used), "v2" if used else plain)


def _own_name(values: Mapping[str, str], variable: str) -> str | None:
    name = values.get(variable, "").strip() or None
    if name is not None and not IDENTIFIER.fullmatch(name):
        raise ConfigurationError(variable, 'must be 1 to 128 visible ASCII characters without , " or \\')
    return name


def _flag(values: Mapping[str, str], name: str) -> bool:
    value = values.get(name, "").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"", "0", "false", "no", "off"}:
        return False
    raise ConfigurationError(name, "must be 1 or 0")


def _skew(values: Mapping[str, str]) -> int:
    value = values.get(SKEW, "").strip() or "300"
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= 900):
        raise ConfigurationError(SKEW, "must be a whole number of seconds from 1 to 900")
    return int(value)


def _legacy_until(values: Mapping[str, str]) -> float | None:
    """A day is the last one on which legacy is taken; an instant is the first moment at which it is not."""
    value = values.get(LEGACY_UNTIL, "").strip()
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if len(value) == len("2026-12-31"):
            moment = moment.replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigurationError(
            LEGACY_UNTIL, "must be a day like 2026-12-31 or an instant like 2026-12-31T12:00:00Z"
        )
    return moment.timestamp()


def _keys(text: str, plain: str, instance: str | None) -> Iterable[Key]:
    for key_id, value in _object(KEYS, text).items():
        fields = {"secret": value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise ConfigurationError(KEYS, "must give each key a secret or an object")
        yield _key(key_id, fields, plain, instance)


def _object(variable: str, text: str) -> dict[str, Any]:
    """The JSON object in `text`; empty text is no keys. What the parser said stays out of it: it quotes."""
    if not text.strip():
        return {}
    if len(text) > _LONGEST_JSON:
        raise ConfigurationError(variable, "is larger than 1 MB")
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        example = '{"key-1": "secret"}' if variable == KEYS else '{"id": "acme", "secret": "base64"}'
        raise ConfigurationError(variable, f"must be a JSON object like {example}, without doubled names")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    return value


def _key(key_id: str, fields: dict[str, Any], plain: str, instance: str | None) -> Key:
    unknown = fields.keys() - _FIELDS
    if unknown:
        raise ConfigurationError(
            KEYS, f"a key has secret, public_key and {', '.join(sorted(_FIELDS))} at most"
        )
    algorithm = fields.get("algorithm", "ed25519" if "public_key" in fields else plain)
    if algorithm == "ed25519" and "secret" in fields:
        raise ConfigurationError(
            KEYS, "needs the public_key of an ed25519 key; its secret stays with its signer"
        )
    try:
        return Key(
            id=key_id,
            algorithm=algorithm,
            **key_material(algorithm, fields),
            scope=fields.get("scope", "provider"),
            not_before=_instant(fields.get("not_before")),
            not_after=_instant(fields.get("not_after")),
            instance=_name(fields.get("instance", instance)),
            org=_name(fields.get("org")),
            revoked=_boolean(fields.get("revoked", False)),
        )
    except (ValueError, TypeError, OverflowError):
        problem = "has a key that makes no sense: look at its id, algorithm, material, scope, dates and names"
    raise ConfigurationError(KEYS, problem)


def _response_key(text: str) -> Key | None:
    """The seed signs, and its public key is what a portal is told."""
    values = _object(RESPONSE_KEY, text)
    if not values:
        return None
    try:
        seed = key_material("ed25519", values)["secret"]
        key = Key(values["id"], "ed25519", seed, _public_key(seed))
    except ConfigurationError:  # is a ValueError, and says what to install
        raise
    except (KeyError, ValueError, TypeError):
        key = None
    if key is None or values.keys() != {"id", "secret"}:
        problem = 'must have an "id", and as "secret" the 32 bytes of an ed25519 seed in base64, and no more'
        raise ConfigurationError(RESPONSE_KEY, problem)
    return key


def _public_key(seed: bytes) -> bytes:
    try:
        return public_key(seed)
    except Refused:
        message = "ed25519 needs PyNaCl: pip install provider-federation[ed25519]"
    raise ConfigurationError(RESPONSE_KEY, message, "config_ed25519_not_installed")


def _instant(value: object) -> float | None:
    """Seconds since 1970 UTC, or ISO 8601 with its zone."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if not isinstance(value, str):
        if not math.isfinite(value):  # JSON as Python reads it has NaN and Infinity
            raise ValueError
        return float(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment.timestamp()


def _name(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise TypeError


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _check_safety(keys: tuple[Key, ...], response_key: Key | None, *, development: bool) -> None:
    seen: set[bytes] = set()
    everything = [(KEYS, key) for key in keys] + ([(RESPONSE_KEY, response_key)] if response_key else [])
    for variable, key in everything:
        _check_key(variable, key, development=development)
        material = {part for part in (key.secret, key.public_key) if part}
        if material & seen:
            raise ConfigurationError(
                variable, f"{_named(key)} has the secret of another key", "config_secret_reuse"
            )
        seen |= material


def _check_key(variable: str, key: Key, *, development: bool) -> None:
    if development:
        return
    if key.algorithm == "h31":
        message = (
            f"{_named(key)} is for h31, which protects nothing; set {SIG_SHA256}=1 on both sides "
            f"(or, on a developer's machine, {ENVIRONMENT}=development)"
        )
        raise ConfigurationError(KEYS, message, "config_h31_in_production")
    if is_weak(key):
        message = f"{_named(key)} has a short, guessable or published secret; make one with 32 random bytes"
        raise ConfigurationError(variable, message, "config_weak_secret")


def _named(key: Key) -> str:
    return f"the key {key.id}"
