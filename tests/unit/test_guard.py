"""The SSRF guard: threats 117 to 121."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_federation.kit.problem import Problem
from provider_federation.portal.shim import guard
from provider_federation.portal.shim.guard import BaseUrl, check_address, is_public, parse_base_url, resolve

PUBLIC = ipaddress.ip_address("93.184.216.34")


def code_of(url: str, private: tuple[str, ...] = ()) -> str:
    try:
        base = parse_base_url(url, private)
        asyncio.run(resolve(base, private))
    except Problem as problem:
        return f"{problem.code}" if problem.status in {422, 502} else "wrong status"
    return "ok"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "ftp://example.com",
        "example.com",
        "//example.com",
        "https://",
        "https:///x",
        "https://user@example.com",
        "https://user:pw@example.com",
        "https://example.com:22",
        "https://example.com:6379",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:99999",
        "https://example.com:8443x",
        "https://example.com:-1",
        "https://example.com/#x",
        "https://example.com/?a=b",
        "https://example.com?a",
        " https://example.com",
        "https://example.com ",
        "https://exa mple.com",
        "https://example.com\r\nX: y",
        "https://example.com\n",
        "https://example.com\t",
        "https://example.com\x00",
        "https://example.com\\@10.0.0.1",
        "https://example.com/../x",
        "https://example.com/%2e",
        "https://example.com//x",
        "https://ex%61mple.com",
        "https://example..com",
        "https://-example.com",
        "https://example.com..",
        "https://.example.com",
        "https://[::1",
        "https://[x]",
        "https://[127.0.0.1]",
        "https://" + "a" * 300 + ".com",
        "https://" + ".".join(["a" * 60] * 5),
        "https://exa\u200bmple.com",
        "https://example.com:\uff18\uff10",
        "HTTPS//example.com",
        "https://ex_am!ple.com",
    ],
)
def test_base_url_grammar(url: str) -> None:
    assert code_of(url) == "base_url_not_allowed"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.1",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0x7f000001",
        "127.0.0.01",
        "127.0.0.0x1",
        "0",
        "1.2.3",
        "256.1.1.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[fe80::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::808:808]",
        "[2002:7f00:1::]",
        "[2001:0:1::]",
        "168.63.129.16",
        "0.1.2.3",
        "198.18.0.1",
        "198.19.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "[ff02::1]",
        "[fec0::1]",
        "[::]",
        "192.0.0.192",
        "192.0.2.1",
        "100.100.100.200",
        "metadata.google.internal",
        "metadata.google.internal.",
        "metadata",
        "[fc00::1]",
        "[2001:db8::1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1",
        "\u2460\u2461\u2466.0.0.1",
        "[0:0:0:0:0:ffff:a00:1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_inner_addresses(host: str, scheme: str) -> None:
    assert code_of(f"{scheme}://{host}") == "ssrf_blocked"


def test_listed_hosts_and_only_they() -> None:
    listed = ("127.0.0.1", "10.0.0.7", "[::1]", "Localhost", "fd12::1")
    assert code_of("http://127.0.0.1:8001", listed) == "ok"
    assert code_of("https://10.0.0.7", listed) == "ok"
    assert code_of("http://[::1]:8001", listed) == "ok"
    assert code_of("http://[fd12::1]:8001", listed) == "ok"
    assert code_of("http://localhost:8001", listed) == "ok"
    assert code_of("http://127.0.0.2:8001", listed) == "ssrf_blocked"
    assert code_of("http://127.1:8001", listed) == "ssrf_blocked"
    assert code_of("http://127.0.0.1:22", listed) == "base_url_not_allowed"
    assert (
        code_of("http://93.184.216.34", ("93.184.216.34",)) == "base_url_not_allowed"
    )  # plain http over the Internet


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "0.0.0.0",
        "[::ffff:7f00:1]",
    ],
)
def test_metadata_services_cannot_be_listed(host: str) -> None:
    assert code_of(f"http://{host}", (host.strip("[]"),)) == "ssrf_blocked"


def test_one_spelling() -> None:
    assert str(parse_base_url("HTTPS://Example.COM.:443/")) == "https://example.com"
    assert str(parse_base_url("https://example.com:8443/app/")) == "https://example.com:8443/app"
    assert parse_base_url("https://b\u00fccher.example").host == "xn--bcher-kva.example"
    assert parse_base_url("https://[2606:4700:0::1111]:8443").authority == "[2606:4700::1111]:8443"


def test_every_resolved_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One inner address among public ones spoils the name, whatever its place."""
    base = parse_base_url("https://instance.example")
    for inner in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0"):
        for found in (["93.184.216.34", inner], [inner, "93.184.216.34"], [inner]):
            monkeypatch.setattr(
                socket,
                "getaddrinfo",
                lambda *_a, found=found, **_k: [(0, 0, 0, "", (text, 443)) for text in found],
            )
            with pytest.raises(Problem) as caught:
                asyncio.run(resolve(base, ()))
            assert caught.value.code == "ssrf_blocked"


def test_a_name_is_listed_by_itself_not_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", ("127.0.0.1", 443))])
    assert code_of("https://evil.example", ("127.0.0.1",)) == "ssrf_blocked"
    assert code_of("https://acme.internal", ("acme.internal",)) == "ok"


@settings(deadline=None)
@given(st.ip_addresses())
def test_public_is_never_more_than_the_standard_library_calls_global(address: guard.Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not any(
            (
                address.is_multicast,
                address.is_reserved,
                address.is_loopback,
                address.is_link_local,
                address.is_private,
            )
        )
        assert not getattr(address, "ipv4_mapped", None)
        assert not getattr(address, "sixtofour", None)


@settings(deadline=None)
@given(st.ip_addresses())
def test_nothing_private_without_the_list(address: guard.Address) -> None:
    base = BaseUrl("https", "instance.example", 443)
    try:
        check_address(address, base, ())
    except Problem as problem:
        code = problem.code
    else:
        code = "ok"
    assert code == ("ok" if is_public(address) else "ssrf_blocked")


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s/]{1,40}(:[0-9]{1,6})?(/.*)?", fullmatch=True))
def test_any_text_parses_or_is_a_problem(text: str) -> None:
    try:
        base = parse_base_url(text)
    except Problem as problem:
        code = problem.code
    else:
        code = "ok"
        assert base.scheme == "https"
        assert parse_base_url(str(base)) == base
        assert str(base).isascii()
    assert code in {"ok", "base_url_not_allowed", "ssrf_blocked"}


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.sampled_from(["dec", "hex", "oct", "short", "mapped", "nat64", "sixtofour"]))
def test_other_spellings_of_an_address_never_pass(address: ipaddress.IPv4Address, form: str) -> None:
    number = int(address)
    a, b, c, d = address.packed
    spelled = {
        "dec": str(number),
        "hex": hex(number),
        "oct": f"0{number:o}",
        "short": f"{a}.{b}.{(c << 8) + d}",
        "mapped": f"[::ffff:{address}]",
        "nat64": f"[64:ff9b::{address}]",
        "sixtofour": f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]",
    }[form]
    assert code_of(f"https://{spelled}", (str(address),)) == "ssrf_blocked"
