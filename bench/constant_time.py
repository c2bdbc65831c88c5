"""Does the time of a refusal tell whether a key is known? A statistical look, not a proof.

    python bench/constant_time.py [--rounds 21]

The same badly signed request, naming a known key and naming nobody's, in turn: `ratio` is the median of the rounds'
unknown / known (1.0: nothing to see). A known key with the first, and with the last, byte of its signature wrong is the
second pair: the comparison does not stop early.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import time
from dataclasses import dataclass, replace

import peers

from provider_federation.kit import clock
from provider_federation.protocol import Keyring, Policy, Refused, Request, sign, verify

POLICY = Policy(instance="acme", authorities=("acme.example",), accept=("sha256", "hmac-sha256", "ed25519"))


@dataclass(frozen=True)
class Row:
    """Medians in microseconds."""

    algorithm: str
    comparison: str
    one_us: float
    other_us: float
    ratio: float


def _signed(algorithm: str, key_id: str, wrong_byte: int) -> Request:
    bare = Request(
        "POST", peers.TARGET, "acme.example", [("Host", "acme.example"), *peers.CONTENT], peers.BODY
    )
    options = {} if algorithm == "sha256" else {"instance": "acme"}
    added = sign(bare, replace(peers.KEYS[algorithm], id=key_id), now=clock.timestamp(), **options)
    return replace(bare, headers=bare.headers + [_spoilt(pair, wrong_byte) for pair in added])


def _spoilt(pair: tuple[str, str], wrong_byte: int) -> tuple[str, str]:
    name, value = pair
    if name == "X-Provider-Signature":
        tag = bytearray(bytes.fromhex(value.removeprefix("sha256:")))
        tag[wrong_byte] ^= 1
        return name, f"sha256:{tag.hex()}"
    if name != "Signature":
        return pair
    tag = bytearray(base64.b64decode(value.split(":")[1]))
    tag[wrong_byte] ^= 1
    return name, f"pf=:{base64.b64encode(tag).decode()}:"


def _microseconds(request: Request, keyring: Keyring, count: int) -> float:
    now = clock.timestamp()
    started = time.perf_counter_ns()
    for _ in range(count):
        try:
            verify(request, keyring, POLICY, now=now)
        except Refused:
            continue
        raise AssertionError("accepted")
    return (time.perf_counter_ns() - started) / count / 1000


def rows(rounds: int = 21, count: int = 300) -> list[Row]:
    """Two rows for each algorithm."""
    found = []
    for algorithm, key in peers.KEYS.items():
        keyring = Keyring([key])
        pairs = {
            "known key / unknown key": (_signed(algorithm, key.id, 5), _signed(algorithm, "nobody", 5)),
            "first byte / last byte wrong": (_signed(algorithm, key.id, 0), _signed(algorithm, key.id, -1)),
        }
        for name, (one, other) in pairs.items():
            sample = [
                (_microseconds(one, keyring, count), _microseconds(other, keyring, count))
                for _ in range(rounds)
            ]
            ones, others = zip(*sample, strict=True)
            ratio = statistics.median(second / first for first, second in sample)
            found.append(Row(algorithm, name, statistics.median(ones), statistics.median(others), ratio))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    for row in rows(parser.parse_args().rounds):
        print(
            f"{row.algorithm:12} {row.comparison:30} {row.one_us:8.1f} {row.other_us:8.1f} {row.ratio:6.2f}"
        )


if __name__ == "__main__":
    main()
