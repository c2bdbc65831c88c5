"""The SSRF guard: which base URLs an instance may have, and which addresses the portal may connect to.

Three steps, none of them skippable by a caller: the URL's grammar (`parse_base_url`), the names and literal
addresses in it (the same function), and every address the name resolves to (`resolve`), right before the
connection is made to exactly one of those addresses. There is no second resolution, so a name that changes in
between (DNS rebinding) changes nothing.

Networks that are not the public Internet are allowed only for hosts that the operator listed by name or
address (PORTAL_ALLOW_PRIVATE_HOSTS); plain http only for those, and only while they are private. Metadata
services, link-local and multicast addresses are never allowed. Raises Problem 422 `base_url_not_allowed` or
`ssrf_blocked`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import idna

from provider_federation.kit.problem import Problem

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_URL = 300
_LOOK_SECONDS = 5.0
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\[\]/]*\]|[^\[\]/:]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9_~-]+)*)/?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")

# Services that speak something else than HTTP (browsers keep a similar list).
# fmt: off
_BAD_PORTS = frozenset({
    1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369,
    5060, 5061, 5432, 5672, 5900, 5984, 5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 7001, 9042, 9092, 9200, 9300, 10080, 10250, 10255, 11211, 15672, 25565,
    26257, 26379, 27017, 27018, 27019, 28017,
})
# fmt: on


def _networks(text: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in text.split())


# Not even for a host on the operator's list: nobody's instance lives here, and credentials do.
_NEVER = _networks(
    "0.0.0.0/8 169.254.0.0/16 168.63.129.16/32 100.100.100.200/32 192.0.0.192/32 224.0.0.0/4 240.0.0.0/4 "
    "fe80::/10 fec0::/10 ff00::/8 fd00:ec2::254/128 fd20:ce::254/128 ::/128 "
    # Addresses that carry another inside: what they reach depends on a gateway that we do not see.
    "::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16"
)
# Not the public Internet (IANA's special-purpose registries); a listed host may be here.
_PRIVATE = _networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 "
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 2001::/23 2001:db8::/32 3fff::/20 "
)
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)

# Its own threads: a name server that does not answer must not hold up the event loop's shared ones.
_resolvers = ThreadPoolExecutor(max_workers=32, thread_name_prefix="shim-resolve")


@dataclass(frozen=True)
class BaseUrl:
    """A base URL taken apart. `host` is lower-case ASCII without brackets or trailing dot; `prefix` a path or
    empty.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """What the Host header and the signature say."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def literal(self) -> Address | None:
        """The address, when the host is one."""
        return _literal(self.host)


@lru_cache(maxsize=4096)
def parse_base_url(text: str, private_hosts: tuple[str, ...] = ()) -> BaseUrl:
    """Take a base URL apart and check everything that needs no name server. `private_hosts` as in the
    module's text.
    """
    if len(text) > _LONGEST_URL or any(
        character.isspace() or not character.isprintable() for character in text
    ):
        raise _not_allowed("it is too long, or holds spaces or control characters")
    if "[" in text and "%" in text:
        raise _blocked(text.split("[", 1)[1].rstrip("]/"))
    match = _URL.fullmatch(text)
    if match is None:
        raise _not_allowed("write https://host[:port], without user, query or fragment")
    scheme = match["scheme"].lower()
    base = BaseUrl(scheme, _host(match["host"]), _port(match["port"], scheme), match["path"])
    listed = is_listed(base.host, private_hosts)
    _check_name(base.host, listed=listed)
    if base.literal is not None:
        check_address(base.literal, base, private_hosts)
    if scheme == "http" and not listed:
        raise _not_allowed("plain http is only for hosts listed in PORTAL_ALLOW_PRIVATE_HOSTS")
    return base


def is_listed(host: str, private_hosts: tuple[str, ...]) -> bool:
    """Did the operator list exactly this host? A name on the list is not listed by its address, nor the other
    way round.
    """
    return any(host == entry.strip("[]").rstrip(".").lower() for entry in private_hosts)


def is_public(address: Address) -> bool:
    """Is this an address of the public Internet?"""
    if any(address in network for network in (*_NEVER, *_PRIVATE)):
        return False
    return address.version == 4 or address in _GLOBAL_V6


def check_address(address: Address, base: BaseUrl, private_hosts: tuple[str, ...]) -> None:
    """Raise unless the portal may connect to `address` for `base`."""
    if any(address in network for network in _NEVER) or getattr(address, "scope_id", None):
        raise _blocked(base.host)
    if is_public(address):
        if base.scheme == "http":
            raise _not_allowed("plain http does not go over the public Internet")
        return
    if not is_listed(base.host, private_hosts):
        raise _blocked(base.host)


async def resolve(base: BaseUrl, private_hosts: tuple[str, ...]) -> list[Address]:
    """All addresses of the host, once, each of them checked: one bad address spoils the name.

    Raises Problem 422 as above, or 502 `dns_failed`.
    """
    if base.literal is not None:
        check_address(base.literal, base, private_hosts)
        return [base.literal]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_resolvers, _look_up, base.host, base.port)
    except (OSError, UnicodeError):
        raise Problem(502, "dns_failed", f"The name {base.host} cannot be resolved.") from None
    addresses = list(dict.fromkeys(found))
    for address in addresses:
        check_address(address, base, private_hosts)
    return addresses


def check_base_url(text: str, private_hosts: tuple[str, ...] = ()) -> BaseUrl:
    """`parse_base_url`, and what the name resolves to now; for synchronous code that is about to store the
    URL.

    A name that cannot be resolved at the moment is let through: it is checked again at every connection.
    """
    base = parse_base_url(text, private_hosts)

    async def look() -> None:
        async with asyncio.timeout(_LOOK_SECONDS):
            await resolve(base, private_hosts)

    try:
        asyncio.run(look())
    except TimeoutError:
        return base
    except Problem as problem:
        if problem.code != "dns_failed":
            raise
    return base


def _look_up(host: str, port: int) -> list[Address]:
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(row[4][0]) for row in rows]


def _host(text: str) -> str:
    if text.startswith("["):
        address = _literal(text[1:-1])
        if address is None or address.version == 4:
            raise _not_allowed("what stands in the brackets is no IPv6 address")
        return str(address)
    try:
        host = text if text.isascii() else idna.encode(text, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        raise _not_allowed("its host is not a valid name") from None
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise _not_allowed("its host is not a valid name")
    return host


def _port(text: str | None, scheme: str) -> int:
    port = int(text) if text else {"http": 80, "https": 443}[scheme]
    if port in {80, 443} or (1024 <= port <= 65535 and port not in _BAD_PORTS):
        return port
    raise _not_allowed(f"port {port} is not one for HTTP")


def _check_name(host: str, *, listed: bool) -> None:
    """Names that mean this machine or a metadata service, and the old spellings of addresses (2130706433,
    0x7f.1, 127.1).
    """
    numeric = _literal(host) is None and _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]) is not None
    if numeric or host in _METADATA_NAMES:
        raise _blocked(host)
    if (host == "localhost" or host.endswith(".localhost")) and not listed:
        raise _blocked(host)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _not_allowed(why: str) -> Problem:
    return Problem(422, "base_url_not_allowed", f"This base URL is not allowed: {why}.")


def _blocked(host: str) -> Problem:
    return Problem(
        422,
        "ssrf_blocked",
        f"{host[:100]} is not on the public Internet; an administrator can list it in "
        "PORTAL_ALLOW_PRIVATE_HOSTS if an instance really lives there.",
    )
