"""Names that no header can carry, and settings that would be open without anybody noticing, are no keys and no policies."""

from __future__ import annotations

import pytest
from tests.unit.protocol.v2_world import MAC

from provider_federation.protocol import (
    CannotSign,
    Key,
    Policy,
    Request,
    sign,
)
from provider_federation.protocol.config import ConfigurationError, read_environment

ODD = ["", " acme", "acme ", "ac\nme", "M\u00fcller", "\0", "acme\t"]


@pytest.mark.parametrize("name", [*ODD, "a b", "a,b", 'a"b', "a\\b", "x" * 129])
def test_an_org_that_the_verifier_would_refuse_binds_no_key_and_no_policy(name: str) -> None:
    """The short way took such a key's org where the long way refused it; an empty one was no org to one of them."""
    with pytest.raises(ValueError, match="org"):
        Key("k", "hmac-sha256", b"k" * 32, org=name)
    with pytest.raises(ValueError, match="org"):
        Policy(org=name)


@pytest.mark.parametrize("name", ODD)
def test_an_instance_that_no_header_can_name_binds_no_key_and_no_policy(name: str) -> None:
    """An empty one, from a variable that is not set, would take requests for any instance."""
    with pytest.raises(ValueError, match="instance"):
        Key("k", "hmac-sha256", b"k" * 32, instance=name)
    with pytest.raises(ValueError, match="instance"):
        Policy(instance=name)


def test_authorities_that_are_one_text_are_none() -> None:
    """Each of its letters would be a host."""
    with pytest.raises(ValueError, match="authorities"):
        Policy(authorities="acme.example")


@pytest.mark.parametrize("variable", ["INSTANCE_NAME", "INSTANCE_ORG_ID"])
def test_such_a_name_in_the_environment_is_told_by_its_variable(variable: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_environment({variable: "M\u00fcller, \x01"})
    assert caught.value.variable == variable


@pytest.mark.parametrize("key", [MAC, Key("old", "sha256", b"o" * 32), Key("dev", "h31", b"o")])
@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf"), 1e300, -1e12])
def test_no_time_can_be_signed(key: Key, now: float) -> None:
    with pytest.raises(CannotSign):
        sign(Request("GET", "/a", "acme.example", [], b""), key, now=now, instance="acme")
