"""What signing and verifying cost beside the bare cryptography on the same bytes, and beside others.

    python bench/protocol.py [--rounds 201] [--only-core]      (make bench-protocol)

Each round makes 120 requests anew, each with a body, a time and a nonce of its own and every text decoded as from the
wire, and works through them with the raw operation and with ours, one right after the other. The cases take turns, so that
each finds the processor's caches full of another's work: its first twenty are told apart (`cold ratio`), and what counts is
the median of the rounds' ratios (ours / raw) over the hundred after them, which other work on the machine moves little. Written to docs/performance.md, between the marks of each section; the tables beside other libraries and of the ASGI adapter
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
COUNT, WARM_UP = 120, 20
SECRET = hashlib.sha256(b"bench: a secret").digest()
SIGNER = SigningKey(hashlib.sha256(b"bench: a seed").digest())
SIZE = 2048
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


@dataclass(frozen=True)
class Batch:
    """What one round works on: requests to sign, the same signed a hundredth of a second apart, and for the raw operation
    what was signed and, of ed25519, the signatures.
    """

    bare: list[Request]
    signed: list[Request]
    bases: list[bytes]
    tags: list[bytes]

    def part(self, which: slice) -> Batch:
        """Some of it."""
        return Batch(*(values[which] for values in (self.bare, self.signed, self.bases, self.tags)))


@dataclass(frozen=True)
class Timing:
    """Microseconds an operation: of the first twenty, and of the hundred after them."""

    cold: float
    warm: float


Work = Callable[[Batch], object]


@dataclass(frozen=True)
class Case:
    """One operation on a batch, what it is measured against, and the ratio that it may have (None: shown only)."""

    name: str
    against: str
    limit: float | None
    make: Callable[[int], Batch]
    raw: Work
    ours: Work


@dataclass(frozen=True)
class Row:
    """Medians: microseconds an operation, and ours / raw; `cold_ratio` is that of the first twenty of each round."""

    operation: str
    against: str
    raw_us: float
    ours_us: float
    ratio: float
    limit: float | None
    cold_ratio: float


def _batch(algorithm: str, round_: int, *, on_the_wire: bool = False) -> Batch:
    legacy = algorithm in {"h31", "sha256"}
    sent = (WIRE if on_the_wire else []) + ([] if legacy else [("Content-Type", "application/json")])
    bare = [
        _decoded(
            Request("POST", "/api/billing/list", "acme.example", sent, b"" if legacy else os.urandom(SIZE))
        )
        for _ in range(COUNT)
    ]
    signed = [
        _decoded(replace(request, headers=[*sent, *_signed(request, algorithm, round_ + number / COUNT)]))
        for number, request in enumerate(bare)
    ]
    bases = [os.urandom(100) if algorithm == "sha256" else _base(request, legacy) for request in signed]
    tags = [SIGNER.sign(base).signature for base in bases] if algorithm == "ed25519" else []
    return Batch(bare, signed, bases, tags)


def _signed(request: Request, algorithm: str, later: float) -> list[tuple[str, str]]:
    return sign(request, KEYS[algorithm], now=NOW + later, instance="acme")


def _decoded(request: Request) -> Request:
    """The same, of texts that nobody has met before, as a server decodes them."""

    def again(text: str) -> str:
        return text.encode("latin-1").decode("latin-1")

    headers = [(name, again(value)) for name, value in request.headers]
    return Request(
        again(request.method), again(request.target), again(request.authority), headers, request.body
    )


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


def _cases(algorithm: str, limits: tuple[float, float], wire: bool) -> list[Case]:
    key, ring = KEYS[algorithm], Keyring([KEYS[algorithm]])
    against, raw_sign, raw_verify = _raw(algorithm)
    end = ", among a client's usual headers" if wire else ""

    def make(round_: int) -> Batch:
        return _batch(algorithm, round_, on_the_wire=wire)

    def signing(batch: Batch) -> None:
        for request in batch.bare:
            sign(request, key, now=NOW, instance="acme")

    def verifying(batch: Batch) -> None:
        for request in batch.signed:
            verify(request, ring, POLICY, now=NOW)

    def remembering(batch: Batch) -> None:
        store = MemoryReplayStore()
        for request in batch.signed:
            verify(request, ring, POLICY, now=NOW, replay=store)

    cases = [
        Case(f"{algorithm} sign{end}", against, None if wire else limits[0], make, raw_sign, signing),
        Case(f"{algorithm} verify{end}", against, None if wire else limits[1], make, raw_verify, verifying),
    ]
    if algorithm == "hmac-sha256" and not wire:
        name, limit = f"{algorithm} verify, replay check included", 3.6
        cases.append(Case(name, against, limit, make, raw_verify, remembering))
    return cases


def _raw(algorithm: str) -> tuple[str, Work, Work]:
    """What it is measured against: in words, for signing, for verifying."""
    length = len(_batch(algorithm, 0).bases[0])
    if algorithm == "sha256":
        return "hmac.digest of 100 bytes", _raw_hmac, _raw_hmac
    if algorithm == "h31":
        return "the rolling hash as a loop", _raw_roll, _raw_roll
    if algorithm == "hmac-sha256":
        return f"hmac.digest of the base ({length} bytes) + sha256 of the 2 KB body", _raw_both, _raw_both
    return f"PyNaCl on the base ({length} bytes) + sha256 of the 2 KB body", _raw_sign, _raw_verify


def _raw_hmac(batch: Batch) -> None:
    for base in batch.bases:
        hmac.digest(SECRET, base, "sha256")


def _raw_both(batch: Batch) -> None:
    for base, request in zip(batch.bases, batch.signed, strict=True):
        hmac.digest(SECRET, base, "sha256")
        hashlib.sha256(request.body).digest()


def _raw_sign(batch: Batch) -> None:
    for base, request in zip(batch.bases, batch.signed, strict=True):
        SIGNER.sign(base)
        hashlib.sha256(request.body).digest()


def _raw_verify(batch: Batch) -> None:
    for base, tag, request in zip(batch.bases, batch.tags, batch.signed, strict=True):
        SIGNER.verify_key.verify(base, tag)
        hashlib.sha256(request.body).digest()


def _raw_roll(batch: Batch) -> None:
    secret = KEYS["h31"].secret
    for base in batch.bases:
        _roll(base + secret)


def _roll(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value * 31 + byte) & 0xFFFFFFFF
    return value


def rows(rounds: int) -> list[Row]:
    """One row a case, interleaved."""
    limits = {"sha256": (1.5, 1.8), "hmac-sha256": (1.8, 3.3), "ed25519": (1.3, 1.5), "h31": (2.7, 2.7)}
    cases = [case for name in limits for case in _cases(name, limits[name], wire=False)]
    cases += [case for name in ("sha256", "hmac-sha256") for case in _cases(name, limits[name], wire=True)]
    samples: list[list[tuple[Timing, Timing]]] = [[] for _ in cases]
    gc.collect()
    gc.freeze()
    for round_ in range(rounds):
        for case, sample in zip(cases, samples, strict=True):
            batch = case.make(round_)
            sample.append((_time(case.raw, batch), _time(case.ours, batch)))
    gc.unfreeze()
    return [_row(case, sample) for case, sample in zip(cases, samples, strict=True)]


def _time(work: Work, batch: Batch) -> Timing:
    """Without the garbage collector, as timeit does."""
    first, rest = batch.part(slice(WARM_UP)), batch.part(slice(WARM_UP, None))
    gc.disable()
    started = time.perf_counter()
    work(first)
    between = time.perf_counter()
    work(rest)
    ended = time.perf_counter()
    gc.enable()
    return Timing((between - started) / len(first.bare) * 1e6, (ended - between) / len(rest.bare) * 1e6)


def _row(case: Case, sample: list[tuple[Timing, Timing]]) -> Row:
    raw, ours = (statistics.median(one.warm for one in times) for times in zip(*sample, strict=True))
    ratio = statistics.median(ours.warm / raw.warm for raw, ours in sample)
    cold = statistics.median(ours.cold / raw.cold for raw, ours in sample)
    return Row(case.name, case.against, raw, ours, ratio, case.limit, cold)


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
    parser.add_argument("--rounds", type=int, default=201)
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
