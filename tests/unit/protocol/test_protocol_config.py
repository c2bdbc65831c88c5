"""The environment of the original app. Each refusal names the variable and never the secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from provider_federation.protocol import Policy
from provider_federation.protocol.config import ConfigurationError, read_environment

GOOD = "kVx0fY9w2Jr7QmZt4Lp8"
OTHER = "bT3nH6uXc1Ws9GdEe5Ra"
DEVELOPMENT = {"PROVIDER_FEDERATION_ENV": "development"}


def _environment(keys: object, **more: str) -> dict[str, str]:
    text = keys if isinstance(keys, str) else json.dumps(keys)
    return {"PROVIDER_KEYS_JSON": text, "PROVIDER_FEDERATION_SIG_SHA256": "1", **more}


def _refusal(values: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(values)
    assert caught.value.variable in str(caught.value)
    assert caught.value.__context__ is None or "Expecting" not in str(caught.value.__context__)
    return caught.value


def test_nothing_set_is_off():
    configuration = read_environment({})
    assert (configuration.enabled, configuration.mode, len(configuration.keyring)) == (False, "off", 0)
    assert configuration.policy.skew == 300
    assert configuration.policy.accept == ("hmac-sha256", "ed25519")


def test_the_original_apps_environment():
    values = _environment(
        {"key-1": GOOD}, PROVIDER_FEDERATION_ENABLED="1", PROVIDER_CLOCK_SKEW_SEC="60", INSTANCE_NAME="acme",
        INSTANCE_ORG_ID="org-1",
    )  # fmt: skip
    configuration = read_environment(values)
    key = configuration.keyring.get("key-1")
    assert key is not None
    assert (key.algorithm, key.secret, key.scope, key.instance) == (
        "sha256",
        GOOD.encode(),
        "provider",
        "acme",
    )
    policy = configuration.policy
    assert (policy.skew, policy.instance, policy.org, policy.development) == (60, "acme", "org-1", False)
    assert "sha256" in policy.accept
    assert "h31" not in policy.accept
    assert (configuration.enabled, configuration.mode) == (True, "sha256")
    assert GOOD not in repr(configuration)


def test_h31_in_development():
    values = {
        "PROVIDER_KEYS_JSON": '{"key-1": "supersecret"}',
        "PROVIDER_FEDERATION_ENABLED": "1",
        **DEVELOPMENT,
    }
    configuration = read_environment(values)
    assert configuration.mode == "h31"
    assert "h31" in configuration.policy.accept
    assert configuration.policy.development


def test_an_object_per_key():
    keys = {
        "old": {"secret": GOOD, "algorithm": "sha256", "scope": "read", "not_after": "2026-06-01T00:00:00Z"},
        "new": {
            "public_key": "26dHlRmU5xbm/rEFUYYBEgbHCYk2qlo0n7b9Rj5TGHs=",
            "org": "org-9",
            "not_before": 1.5,
        },
        "hex": {"public_key": "1f" * 8 + "a0b1c2d3e4f5061728394a5b6c7d8e9f" + "22" * 8, "revoked": True},
        "mac": {"secret": OTHER, "algorithm": "hmac-sha256", "instance": "other"},
    }
    ring = read_environment(_environment(keys)).keyring
    old, new, mac = ring.get("old"), ring.get("new"), ring.get("mac")
    assert old is not None
    assert new is not None
    assert mac is not None
    assert (old.scope, old.not_after) == ("read", datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    assert (new.algorithm, len(new.public_key), new.org, new.not_before) == ("ed25519", 32, "org-9", 1.5)
    assert (mac.algorithm, mac.instance) == ("hmac-sha256", "other")
    assert next(key for key in ring if key.id == "hex").revoked


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-12-31T12:00:00Z", datetime(2026, 12, 31, 12, tzinfo=UTC)),
    ],
)
def test_the_legacy_cut_off(value, instant):
    assert read_environment({"PROVIDER_LEGACY_UNTIL": value}).policy.legacy_until == instant.timestamp()


@pytest.mark.parametrize("value", ["soon", "2026-13-01", "2026-12-31T12:00:00", "9999-12-31", "31.12.2026"])
def test_an_unreadable_cut_off_stops_the_process(value):
    assert _refusal({"PROVIDER_LEGACY_UNTIL": value}).variable == "PROVIDER_LEGACY_UNTIL"


@pytest.mark.parametrize("value", ["0", "901", "-1", "1.5", "5 m", "٣٠٠", "1" * 5000, "3e2"])
def test_an_impossible_skew_stops_the_process(value):
    assert _refusal({"PROVIDER_CLOCK_SKEW_SEC": value}).variable == "PROVIDER_CLOCK_SKEW_SEC"


@pytest.mark.parametrize("name", ["PROVIDER_FEDERATION_ENABLED", "PROVIDER_FEDERATION_SIG_SHA256"])
def test_a_flag_is_a_flag(name):
    assert _refusal({name: "maybe"}).variable == name


@pytest.mark.parametrize(
    "keys",
    [
        "{", "not json", "[]", '["a"]', '"text"', "1", "null", "\ufeff{}", '{"a": "$A", "a": "$B"}',
        '{"a": {"secret": "$A", "secret": "$B"}}', '{"a": 1}', '{"a": null}', '{"a": ["x"]}',
        '{"a": {}}', '{"": "$A"}', '{"a b": "$A"}', '{"a": ""}', '{"a": {"secrets": "$A"}}',
        '{"a": {"secret": "$A", "algorithm": "md5"}}', '{"a": {"secret": 5}}',
        '{"a": {"secret": "$A", "algorithm": ["sha256"]}}', '{"a": {"secret": "$A", "scope": "all"}}',
        '{"a": {"secret": "$A", "not_before": "yesterday"}}',
        '{"a": {"secret": "$A", "not_before": true}}',
        '{"a": {"secret": "$A", "not_before": 1' + "0" * 400 + "}}",
        '{"a": {"secret": "$A", "not_before": "2026-01-01T00:00:00"}}',
        '{"a": {"secret": "$A", "org": 5}}', '{"a": {"secret": "$A", "revoked": "no"}}',
        '{"a": "\\ud800xxxxxxxxxxxxxxxxxxxxxxx"}', '{"a": {"public_key": "AAAA"}}', '{"a": {"public_key": "!!"}}',
        '{"a": {"public_key": "$A", "algorithm": "sha256"}}',
        "[" * 100_000, '{"a":' * 100_000, " " * 10_000_000 + "{}", '{"a": ' + "9" * 5000 + "}",
    ],
    ids=lambda keys: keys[:40],
)  # fmt: skip
def test_threat_085_malformed_keys_stop_the_process(keys):
    refusal = _refusal(_environment(keys.replace("$A", GOOD).replace("$B", OTHER)))
    assert (refusal.code, refusal.variable) == ("config_invalid", "PROVIDER_KEYS_JSON")
    assert GOOD not in str(refusal)
    assert OTHER not in str(refusal)


@pytest.mark.parametrize(
    "more", [{}, {"PROVIDER_FEDERATION_ENV": "production"}, {"PROVIDER_FEDERATION_ENV": "Development"}]
)
def test_threat_067_h31_outside_development_does_not_start(more):
    refusal = _refusal({"PROVIDER_KEYS_JSON": json.dumps({"key-1": GOOD}), **more})
    assert refusal.code == "config_h31_in_production"
    explicit = _environment({"key-1": {"secret": GOOD, "algorithm": "h31"}}, **more)
    assert _refusal(explicit).code == "config_h31_in_production"


@pytest.mark.parametrize(
    "secret",
    [
        "tiny", "fifteen-bytes!!", "supersecret", "supersecret-supersecret", "ChangeMe-please-now", "k" * 64,
        "abababababababababababab", "your-secret-goes-here", "my-example-shared-key-1", "0123456789abcdef0123",
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
    ],
)  # fmt: skip
def test_threat_086_a_weak_or_published_secret_does_not_start(secret):
    refusal = _refusal(_environment({"key-1": secret}))
    assert refusal.code == "config_weak_secret"
    assert secret not in str(refusal)
    assert read_environment(_environment({"key-1": secret}, **DEVELOPMENT)).keyring.get("key-1")


@pytest.mark.parametrize(
    "public_key",
    ["JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=", "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"],
)  # fmt: skip
def test_threat_086_a_published_public_key_does_not_start(public_key):
    assert _refusal(_environment({"key-1": {"public_key": public_key}})).code == "config_weak_secret"


@pytest.mark.parametrize(
    "keys",
    [
        {"a": GOOD, "b": GOOD},
        {"a": GOOD, "b": {"secret": GOOD, "algorithm": "hmac-sha256"}},
    ],
)
def test_threat_087_one_secret_under_two_keys_does_not_start(keys):
    for more in ({}, DEVELOPMENT):
        refusal = _refusal(_environment(keys, **more))
        assert refusal.code == "config_secret_reuse"
        assert GOOD not in str(refusal)


RESPONSE = '{"id": "acme", "secret": "3Kd0mXv9TzL4bHs8WnKq7Jc2mXv9TzL4bHs8WnKq7Jc="}'
PORTAL = {"public_key": "26dHlRmU5xbm/rEFUYYBEgbHCYk2qlo0n7b9Rj5TGHs="}


def test_an_enabled_process_with_an_ed25519_key_answers_with_one_of_its_own():
    enabled = _environment({"portal": PORTAL}, PROVIDER_FEDERATION_ENABLED="1")
    refusal = _refusal(enabled)
    assert (refusal.code, refusal.variable) == ("config_response_key_missing", "PROVIDER_RESPONSE_KEY_JSON")
    key = read_environment(enabled | {"PROVIDER_RESPONSE_KEY_JSON": RESPONSE}).response_key
    assert key is not None
    assert (key.id, key.algorithm, len(key.secret), len(key.public_key)) == ("acme", "ed25519", 32, 32)
    assert read_environment(_environment({"portal": PORTAL})).response_key is None


@pytest.mark.parametrize(
    "text", ["[]", '{"id": "a"}', '{"id": "a", "secret": "AAAA"}', '{"id": 5, "secret": "x"}', RESPONSE[:-1] + ', "scope": "read"}'],
)  # fmt: skip
def test_a_response_key_that_makes_no_sense_stops_the_process(text):
    refusal = _refusal({"PROVIDER_RESPONSE_KEY_JSON": text})
    assert (refusal.code, refusal.variable) == ("config_invalid", "PROVIDER_RESPONSE_KEY_JSON")
    assert "3Kd0mXv9" not in str(refusal)


def test_threat_086_the_rfcs_key_answers_nobody():
    published = '{"id": "a", "secret": "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="}'
    assert _refusal({"PROVIDER_RESPONSE_KEY_JSON": published}).code == "config_weak_secret"


def test_threat_087_the_response_key_is_nobody_elses():
    key = read_environment({"PROVIDER_RESPONSE_KEY_JSON": RESPONSE}).response_key
    assert key is not None
    keys = {"portal": {"public_key": key.public_key.hex()}}
    assert _refusal(_environment(keys, PROVIDER_RESPONSE_KEY_JSON=RESPONSE)).code == "config_secret_reuse"


def test_a_verifier_has_no_business_with_a_signers_seed():
    keys = {"portal": {"algorithm": "ed25519", "secret": "3Kd0mXv9TzL4bHs8WnKq7Jc2mXv9TzL4bHs8WnKq7Jc="}}
    assert _refusal(_environment(keys)).code == "config_invalid"


@pytest.mark.parametrize("field", ["not_before", "not_after"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "true"])
def test_a_date_that_is_no_number_stops_the_process(field, number):
    keys = f'{{"key-1": {{"secret": "{GOOD}", "algorithm": "sha256", "{field}": {number}}}}}'
    with pytest.raises(ConfigurationError, match="PROVIDER_KEYS_JSON"):
        read_environment({"PROVIDER_KEYS_JSON": keys})


@pytest.mark.parametrize("skew", [-1, float("nan"), float("inf")])
def test_a_window_without_an_end_is_no_policy(skew):
    with pytest.raises(ValueError, match="skew"):
        Policy(skew=skew)
