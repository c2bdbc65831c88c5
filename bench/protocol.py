"""What signing and verifying cost beside the bare cryptography on the same bytes, and beside others.

    python bench/protocol.py [--rounds 21] [--only-core]      (make bench-protocol)

Each round times the raw operation and ours one right after the other, over 500 different requests; what counts is the
median of the rounds' ratios (ours / raw), which other work on the machine moves little. Written to
docs/performance.md, between the marks of each section; the tables beside other libraries and of the ASGI adapter
come from peers.py and asgi.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
import hmac
import os
import platform
import ssl
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import asgi
import nacl
import peers
from nacl.signing import SigningKey

from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Request,
    fields,
    sign,
    verify,
)

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
NOW = 1_790_000_000.0
COUNT = 500
SECRET = hashlib.sha256(b"bench: a secret").digest()
SIGNER = SigningKey(hashlib.sha256(b"bench: a seed").digest())
BODY = (b'{"lines": "' + b"x" * 2034 + b'"}')[:2048]
WIRE = [
    ("Host", "acme.example"), ("User-Agent", "provider-federation/1.0"), ("Accept", "application/json"),
    ("Accept-Encoding", "identity"), ("Content-Length", "2048"),
]  # fmt: skip
POLICY = Policy(
    instance="acme", authorities=("acme.example",), accept=("h31", "sha256", "hmac-sha256", "ed25519"), development=True
)  # fmt: skip
KEYS = {
    "h31": Key("key-1", "h31", b"development-secret"),
    "sha256": Key("key-1", "sha256", SECRET),
    "hmac-sha256": Key("key-1", "hmac-sha256", SECRET),
    "ed25519": Key("key-1", "ed25519", bytes(SIGNER), bytes(SIGNER.verify_key)),
}
Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One operation, what it is measured against, and the ratio that it may have (None: shown only)."""

    name: str
    against: str
    limit: float | None
    raw: Work
    ours: Work


@dataclass(frozen=True)
class Row:
    """Medians: microseconds an operation, and ours / raw."""

    operation: str
    against: str
    raw_us: float
    ours_us: float
    ratio: float
    limit: float | None


def _requests(algorithm: str, on_the_wire: bool) -> tuple[list[Request], list[Request], list[bytes]]:
    """Requests to sign, the same signed within some seconds, and what was signed."""
    legacy = algorithm in {"h31", "sha256"}
    sent = (WIRE if on_the_wire else []) + ([] if legacy else [("Content-Type", "application/json")])
    bare = Request("POST", "/api/billing/list", "acme.example", sent, b"" if legacy else BODY)
    signed = [
        replace(bare, headers=[*sent, *sign(bare, KEYS[algorithm], now=NOW + number / 100, instance="acme")])
        for number in range(COUNT)
    ]
    return [bare] * COUNT, signed, [_base(request, legacy) for request in signed]


def _base(request: Request, legacy: bool) -> bytes:
    values = {name.lower(): value for name, value in request.headers}
    if legacy:
        return f"{request.method} {request.target} {values['x-provider-timestamp']}".encode()
    given = fields.read_signature_input(values["signature-input"])[0]
    values |= {
        "@method": request.method,
        "@path": request.target,
        "@query": "?",
        "@authority": request.authority,
    }
    return fields.signature_base(fields.components(given.covered), values, given.text)


def _over(items: Iterable[object], one: Callable[[object], object]) -> Work:
    def work() -> None:
        for item in items:
            one(item)

    return work


def _cases(
    algorithm: str, raw: tuple[str, Work, Work], limits: tuple[float, float], wire: bool
) -> list[Case]:
    bare, signed, _ = _requests(algorithm, wire)
    key, ring = KEYS[algorithm], Keyring([KEYS[algorithm]])
    against, raw_sign, raw_verify = raw
    end = ", among a client's usual headers" if wire else ""

    def remembering() -> None:
        store = MemoryReplayStore()
        for request in signed:
            verify(request, ring, POLICY, now=NOW, replay=store)

    cases = [
        Case(f"{algorithm} sign{end}", against, None if wire else limits[0], raw_sign,
             _over(bare, lambda request: sign(request, key, now=NOW, instance="acme"))),
        Case(f"{algorithm} verify{end}", against, None if wire else limits[1], raw_verify,
             _over(signed, lambda request: verify(request, ring, POLICY, now=NOW))),
    ]  # fmt: skip
    if algorithm == "hmac-sha256" and not wire:
        cases.append(
            Case(f"{algorithm} verify, replay check included", against, 3.6, raw_verify, remembering)
        )
    return cases


def _raw() -> dict[str, tuple[str, Work, Work]]:
    hundred = [b"m" * 100] * COUNT
    bases = {name: _requests(name, on_the_wire=False)[2] for name in KEYS}
    length = len(bases["hmac-sha256"][0])
    hmacs = _over(hundred, lambda base: hmac.digest(SECRET, base, "sha256"))
    both = _over(
        bases["hmac-sha256"],
        lambda base: (hmac.digest(SECRET, base, "sha256"), hashlib.sha256(BODY).digest()),
    )
    pairs = [(base, SIGNER.sign(base).signature) for base in bases["ed25519"]]
    return {
        "sha256": ("hmac.digest of 100 bytes", hmacs, hmacs),
        "hmac-sha256": (f"hmac.digest of the base ({length} bytes) + sha256 of the 2 KB body", both, both),
        "ed25519": (
            f"PyNaCl on the base ({len(bases['ed25519'][0])} bytes) + sha256 of the 2 KB body",
            _over(bases["ed25519"], lambda base: (SIGNER.sign(base).signature, hashlib.sha256(BODY).digest())),
            _over(pairs, lambda pair: (SIGNER.verify_key.verify(*pair), hashlib.sha256(BODY).digest())),
        ),
        "h31": ("the rolling hash as a loop", *[_over(bases["h31"], lambda base: _roll(base + KEYS["h31"].secret))] * 2),
    }  # fmt: skip


def _roll(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value * 31 + byte) & 0xFFFFFFFF
    return value


def rows(rounds: int) -> list[Row]:
    """One row a case, interleaved."""
    raw = _raw()
    limits = {"sha256": (1.5, 1.8), "hmac-sha256": (1.8, 3.3), "ed25519": (1.3, 1.5), "h31": (2.7, 2.7)}
    cases = [case for name in limits for case in _cases(name, raw[name], limits[name], wire=False)]
    cases += [
        case
        for name in ("sha256", "hmac-sha256")
        for case in _cases(name, raw[name], limits[name], wire=True)
    ]
    samples: list[list[tuple[float, float]]] = [[] for _ in cases]
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for case, sample in zip(cases, samples, strict=True):
            sample.append((_time(case.raw), _time(case.ours)))
    gc.unfreeze()
    return [_row(case, sample) for case, sample in zip(cases, samples, strict=True)]


def _time(work: Work) -> float:
    """Microseconds an operation."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / COUNT * 1e6


def _row(case: Case, sample: list[tuple[float, float]]) -> Row:
    raw, ours = (statistics.median(times) for times in zip(*sample, strict=True))
    ratio = statistics.median(ours / raw for raw, ours in sample)
    return Row(case.name, case.against, raw, ours, ratio, case.limit)


def machine(rounds: int) -> str:
    """What was measured on, and how."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (
                line.partition(": ")[2]
                for line in info.read_text().splitlines()
                if line.startswith("model name")
            ),
            cpu,
        )
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()},"
        f" {ssl.OPENSSL_VERSION}, PyNaCl {nacl.__version__}; {rounds} interleaved rounds, medians of the rounds' ratios."
    )  # fmt: skip


def table(found: Iterable[object]) -> str:
    """Rows of one dataclass as a table in Markdown."""
    lines = []
    for row in found:
        values = dataclasses.asdict(row)
        if not lines:
            lines += [
                "| " + " | ".join(name.replace("_us", ", µs").replace("_", " ") for name in values) + " |"
            ]
            lines += ["|" + "---|" * len(values)]
        texts = [
            f"{value:.2f}" if isinstance(value, float) else "" if value is None else str(value)
            for value in values.values()
        ]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def write(section: str, text: str, by: str = "make bench-protocol") -> None:
    """Puts `text` between the section's marks; a section that is not there yet is added at the end."""
    start, end = f"<!-- {section}: written by {by} -->", f"<!-- /{section} -->"
    page = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    if start not in page:
        page = f"{page.rstrip()}\n\n{start}\n{end}\n"
    before, _, rest = page.partition(start)
    PAGE.write_text(f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only-core", action="store_true", help="not beside others, not the adapter")
    options = parser.parse_args()
    found = rows(options.rounds)
    sections = {"protocol": table(found)}
    if not options.only_core:
        sections |= {"peers": table(peers.rows()), "asgi": asgi.report(asgi.rows())}
    for section, text in sections.items():
        by = "make bench-asgi" if section == "asgi" else "make bench-protocol"
        write(section, f"{machine(options.rounds)}\n\n{text}", by)
        print(text, end="\n\n")
    over = [row.operation for row in found if row.limit is not None and row.ratio > row.limit]
    print(f"over their limit: {', '.join(over)}" if over else "all within their limits")


if __name__ == "__main__":
    main()
