"""Coverage-guided fuzzing of `verify`, `verify_response` and the structured fields: `python -m tools.fuzz_verify`.

    --seconds 60     how long (FUZZ_SECONDS)
    FILE ...         run these inputs once, to look at a finding again

An input is text: a first line that says what it is for, then a message as on the wire. The corpus is made of the
vectors. Three targets: `verify` and `verify_response` as they are; `signed`, where the fuzzer writes everything and a
good signature is put on it afterwards by a second implementation of the signature base, so that the checks behind the
signature are reached; `fields`, the readers alone. Held against:

- nothing but `Refused` (readers: `FieldError`) is ever raised;
- the short way of `verify` and the long one say the same;
- what is accepted covers what it must, in time, for this instance, by that second implementation's reading;
- what a reader takes is what it would write again.

A finding ends the run: the input is printed and saved under .fuzz/.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["provider_federation.protocol"]):
    from provider_federation.protocol import (
        Keyring,
        MemoryRatchet,
        MemoryReplayStore,
        Policy,
        Principal,
        Refused,
        Request,
        Response,
        fields,
        verify,
        verify_response,
    )
    from provider_federation.protocol.core import check_head, finish, verify_fields
    from provider_federation.protocol.values import Head

from tools import vector_making as making
from tools import vector_refusals, vectors

ROOT = Path(__file__).resolve().parent.parent
FINDINGS = ROOT / ".fuzz"
NOW = making.NOW
KEYRING = Keyring([making.HMAC, making.ED25519, making.LEGACY, *making.OTHERS])
ANSWERS = Keyring([making.HMAC, making.ANSWERING])
POLICY = Policy(
    **{name: tuple(value) if isinstance(value, list) else value for name, value in making.POLICY.items()}
)
ASKED = making.signed_by(making.bare("POST", making.INVOICES, making.BODY), making.HMAC)
REQUIRED = {"@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope"}
WHEN_SENT = {"x-provider-org", "idempotency-key", "content-digest"}


def _text(start: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    return "\n".join(lines).encode("latin-1", "replace") + b"\n\n" + body


def _message(data: bytes) -> tuple[list[str], list[tuple[str, str]], bytes]:
    """Start line in words, headers, body."""
    head, _, body = data.partition(b"\n\n")
    start, *lines = head.decode("latin-1").split("\n")
    headers = [(name, value.removeprefix(" ")) for name, _, value in (line.partition(":") for line in lines)]
    return start.split(" "), headers, body


def _request(data: bytes) -> Request:
    words, headers, body = _message(data)
    method, target, authority = (*words, "", "", "")[:3]
    return Request(method, target, authority, headers, body, peer=None)


# The corpus


def seeds() -> list[bytes]:
    """The vectors as inputs."""
    found = [_seed(case["request"], case["added"]) for case in vectors.v2()["cases"]]
    found += [_seed(case["request"], []) for case in vector_refusals.refusals()["cases"]]
    for request in list(found):
        found.append(b"signed\n" + request.partition(b"\n")[2])
    for case in vectors.responses()["cases"]:
        answer = case["response"]
        headers = [(name, value) for name, value in answer["headers"]]
        found.append(
            b"response\n" + _text(str(answer["status"]), headers, base64.b64decode(answer["body_base64"]))
        )
    values = {
        value.encode()
        for data in found
        for name, value in _message(data.partition(b"\n")[2])[1]
        if name.startswith("Sig")
    }
    return found + [b"fields\n" + value for value in values]


def _seed(request: dict[str, object], added: list[list[str]]) -> bytes:
    start = f"{request['method']} {request['target']} {request['authority']}"
    headers = [(name, value) for name, value in [*request["headers"], *added]]
    return b"verify\n" + _text(start, headers, base64.b64decode(str(request["body_base64"])))


# The targets


def check_verify(data: bytes) -> None:
    """A request as it is."""
    _verified(_request(data))


def check_signed(data: bytes) -> None:
    """The same with a good signature, wherever a signature can be made of what it says."""
    request = _request(data)
    try:
        base = making.base_as_signed(request)
    except (StopIteration, ValueError, IndexError):
        return
    tag = base64.b64encode(hmac.digest(making.HMAC.secret, base.encode("latin-1"), "sha256")).decode()
    _verified(making.with_header(request, "Signature", f"pf=:{tag}:"))


def _verified(request: Request) -> None:
    store, ratchet = MemoryReplayStore(), MemoryRatchet()
    _hold_against_the_long_way(request)
    try:
        principal = verify(request, KEYRING, POLICY, now=NOW, replay=store, ratchet=ratchet)
    except Refused:
        return
    if principal.scheme == "v2":
        _hold_against_a_second_reading(request)
    again = None
    try:
        verify(request, KEYRING, POLICY, now=NOW, replay=store, ratchet=ratchet)
    except Refused as refused:
        again = refused.code
    if again != "replayed" and (principal.scheme == "v2" or request.method not in {"GET", "HEAD", "OPTIONS"}):
        raise AssertionError("the same request was accepted twice")


def _outcome(check: Callable[[], Principal | None]) -> Principal | str | None:
    try:
        return check()
    except Refused as refused:
        return refused.code


def _hold_against_the_long_way(request: Request) -> None:
    """`verify` in one go, in the two steps of an adapter that has the body already, and from headers as bytes, where
    that says anything: the same answer.
    """
    at_once = _outcome(lambda: verify(request, KEYRING, POLICY, now=NOW))
    in_steps = _outcome(
        lambda: finish(check_head(request, KEYRING, POLICY, NOW), request.body, POLICY, now=NOW, replay=None)
    )
    if at_once != in_steps:
        raise AssertionError(f"one way says {at_once}, the other {in_steps}")
    from_bytes = _outcome(lambda: _from_bytes(request))
    if from_bytes not in {None, in_steps}:
        raise AssertionError(f"from bytes it is {from_bytes}, else {in_steps}")


def _from_bytes(request: Request) -> Principal | None:
    sent = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    head = Head(request.method, request.target, request.authority, request.body, request.peer)
    return verify_fields(head, dict(sent), len(sent), KEYRING, POLICY, now=NOW, replay=None, ratchet=None)


def _hold_against_a_second_reading(request: Request) -> None:
    field = making.header_of(request, "signature-input")
    names = re.findall(r'"([^"]*)"', field[: field.index(")")])
    sent = {name.lower() for name, _ in request.headers}
    needed = REQUIRED | (WHEN_SENT & sent) | ({"content-digest", "content-type"} if request.body else set())
    created, expires = (int(re.findall(rf";{name}=(\d+)", field)[0]) for name in ("created", "expires"))
    if not needed <= set(names) or len(set(names)) != len(names):
        raise AssertionError(f"accepted with too little coverage: {field}")
    if not (abs(NOW - created) <= 300 and created < expires <= created + 300 and expires >= NOW):
        raise AssertionError(f"accepted out of its time: {field}")
    if making.header_of(request, "x-provider-instance") != making.INSTANCE:
        raise AssertionError("accepted for another instance")
    changed = replace(request, body=request.body + b"!")
    try:
        verify(changed, KEYRING, POLICY, now=NOW)
    except Refused:
        return
    raise AssertionError("accepted with another body")


def check_response(data: bytes) -> None:
    """An answer to one fixed request."""
    words, headers, body = _message(data)
    status = int(words[0]) if words[0].isascii() and words[0].isdigit() and len(words[0]) < 5 else 200
    try:
        verify_response(Response(status, headers, body), ASKED, ANSWERS, now=NOW)
    except Refused:
        return
    if (status, body) != (200, b'{"ok": true, "items": []}') and status != 204:
        raise AssertionError("an answer was accepted that nobody gave")


def check_fields(data: bytes) -> None:
    """The readers: what they take is what was written."""
    text = data.decode("latin-1")
    try:
        members = fields.read_signature_input(text)
    except fields.FieldError:
        members = []
    for member in members:
        if f"{member.label}={member.text}" not in text or not member.text.startswith(member.covered):
            raise AssertionError("a member was read that does not stand there")
        if len({*fields.components(member.covered)}) != len(fields.components(member.covered)):
            raise AssertionError("a component stands twice")
    try:
        found = fields.read_byte_sequences(text)
    except fields.FieldError:
        return
    for label, value in found.items():
        if f"{label}=:{base64.b64encode(value).decode()}:" not in text:
            raise AssertionError("a byte sequence was read that does not stand there")


TARGETS = {
    b"verify": check_verify,
    b"signed": check_signed,
    b"response": check_response,
    b"fields": check_fields,
}


def test_one_input(data: bytes) -> None:
    """What the fuzzer calls; by its first letter, an input that names no target goes to one of them all the same."""
    name, _, rest = data.partition(b"\n")
    target = TARGETS.get(name) or list(TARGETS.values())[len(name) % len(TARGETS)]
    try:
        target(rest)
    except Exception:
        print(f"\nFINDING in {target.__name__}, with the input\n{data!r}\n", file=sys.stderr, flush=True)
        raise


def main() -> None:
    """Run for a while, or the given files once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("FUZZ_SECONDS", "60")))
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    for file in options.files:
        test_one_input(Path(file).read_bytes())
    if options.files:
        return
    corpus = FINDINGS / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:04d}").write_bytes(seed)
    arguments = [
        f"-max_total_time={options.seconds}", f"-artifact_prefix={FINDINGS}/", "-max_len=4096", "-timeout=10",
        "-print_final_stats=1", "-close_fd_mask=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments], test_one_input, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
