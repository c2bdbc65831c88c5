"""From an OpenAPI document and one valid request: every request with one thing wrong with it."""

from __future__ import annotations

import copy
import functools
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.attacks.bad_input_samples import SAMPLES, Sample
from tests.attacks.bad_input_world import Service

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "openapi"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
# As they stand in a path; in a query as well.
STRANGE = {
    "malformed": "x", "zero": "0", "negative": "-1", "past 64 bits": "9" * 19, "long digits": "9" * 39, "10 kB": "A" * 10_000,
    "NUL": "%00", "NUL inside": "a%00b", "unicode": quote("💩"), "arabic digits": quote("٣٤"), "not UTF-8": "%FF%FE",
    "surrogate": "%ED%A0%80", "SQL": quote("1' OR '1'='1"), "SQL comment": quote("1;DROP TABLE x;--", safe=""),
    "traversal": "..%2f..%2fetc%2fpasswd", "right to left": quote("\u202e1"), "template": quote("{{7*7}}"), "percent": "%25s%25n",
    "space": "%20", "format": quote("{0.__class__}"),
}  # fmt: skip
_STRANGE_TEXTS = {
    "unknown": str(uuid.uuid4()),
    "unknown number": "987654321",
    "SQL": "1' OR '1'='1",
    "unicode": "💩",
    "digits": "٣٤",
    "10 kB": "A" * 10_000,
    "empty": "",
    "NUL": "a\0",
    "half a pair": "\ud800",
    "line": "a\r\nb",
}
_WRONG: tuple[tuple[str, Any], ...] = (
    ("string", "no such thing"), ("number", 1.5), ("integer", 10**18), ("integer", -1), ("boolean", True), ("array", [1]),
    ("object", {"x": 1}), ("null", None), ("array", []), ("array", [None]), ("array", [{}]), ("object", {}),
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One route: its document and its sample."""

    side: str
    method: str
    path: str
    spec: dict[str, Any]
    schemas: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def sample(self) -> Sample:
        return SAMPLES[self.side][self.name]

    def parameters(self, place: str) -> list[dict[str, Any]]:
        return [one for one in self.spec.get("parameters", []) if one["in"] == place]

    @property
    def body_schema(self) -> dict[str, Any] | None:
        content = self.spec.get("requestBody", {}).get("content", {})
        return content["application/json"]["schema"] if content else None


@dataclass(frozen=True)
class Bad:
    """A request that must be refused; `or_answered` where a refusal is not the only good answer (never a 5xx)."""

    label: str
    target: str
    body: bytes = b""
    headers: dict[str, str] | None = None
    method: str = ""
    or_answered: bool = False


@functools.cache
def operations(side: str) -> tuple[Operation, ...]:
    """Every route of the committed document, in its order."""
    document = json.loads((FOLDER / f"{side}.json").read_text())
    schemas = document["components"]["schemas"]
    return tuple(
        Operation(side, method.upper(), path, spec, schemas)
        for path, found in document["paths"].items()
        for method, spec in found.items()
    )


def taken_methods(operation: Operation) -> set[str]:
    return {one.method for one in operations(operation.side) if one.path == operation.path}


def wrong_methods(operation: Operation, service: Service) -> Iterator[Bad]:
    target = operation.sample.target(service, operation.path)
    for method in METHODS:
        if method not in taken_methods(operation):
            yield Bad(method, target, method=method)


def bad_json(operation: Operation, service: Service) -> Iterator[Bad]:
    """Bodies that are not one JSON object in UTF-8, sent as JSON."""
    if operation.body_schema is None and not operation.sample.is_webhook:
        return
    sample = operation.sample
    target, good = sample.target(service, operation.path), sample.raw(service)
    name = json.dumps(next(iter(json.loads(good))))
    for label, body in (
        ("truncated", good[:-1]), ("half", good[: len(good) // 2]), ("array", b"[" + good + b"]"), ("empty array", b"[]"),
        ("number", b"7"), ("string", b'"text"'), ("true", b"true"), ("two values", good + good), ("text", b"hello"),
        ("a byte order mark", b"\xef\xbb\xbf" + good), ("UTF-16", good.decode().encode("utf-16")),
        ("not UTF-8", b'{"\xff\xfe": 1}'), ("NaN", b"{%s: NaN}" % name.encode()), ("infinity", b"{%s: 1e999}" % name.encode()),
        ("a repeated key", b"{%s: 1, " % name.encode() + good[1:]), ("deep", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        ("deep array", b"[" * 100_000), ("a huge integer", b"{%s: %s}" % (name.encode(), b"9" * 5_000)), ("many", b'{"a":[' + b"1," * 250_000 + b"1]}"),
        ("whitespace", b" \n "), ("NUL bytes", b"\0" * 16), ("form", b"a=1&b=2"), ("XML", b"<?xml version='1.0'?><a/>"),
    ):  # fmt: skip
        # Of a webhook its sender signed the bytes: a repeated key is the sender's own affair.
        own = sample.is_webhook and label == "a repeated key"
        yield Bad(
            label, target, body, {"Content-Type": "application/json", **_proof(sample, body)}, or_answered=own
        )
    if sample.is_webhook:
        return  # what counts there are the bytes that were signed
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "nonsense",
        "application/jsonx",
    ):
        yield Bad(f"sent as {kind}", target, good, {"Content-Type": kind})


def unknown_fields(operation: Operation, service: Service) -> Iterator[Bad]:
    """An extra field in each object of the body, an extra or repeated query parameter, a body where none is taken."""
    sample = operation.sample
    target, body = sample.target(service, operation.path), sample.raw(service)
    joint = "&" if "?" in target else "?"
    for label, extra in (
        ("unknown", "nonsense=1"),
        ("empty", "nonsense"),
        ("NUL", "a%00=1"),
        ("10 kB", "A" * 10_000),
        ("many", "&".join(f"a{n}=1" for n in range(1200))),
    ):
        yield Bad(f"query {label}", target + joint + extra, body, sample.headers(body))
    for one in operation.parameters("query"):
        yield Bad(
            f"{one['name']} twice",
            f"{target}{joint}{one['name']}=1&{one['name']}=2",
            body,
            sample.headers(body),
        )
    if operation.body_schema is not None:
        for label, value in _with_extra(json.loads(body)):
            yield _body(operation, service, f"body {label}", value)
    elif operation.method != "GET" and not sample.is_webhook:
        for value in (b'{"immediate": true}', b"[]", b"nonsense"):
            yield Bad(f"a body {value!r}", target, value, {"Content-Type": "application/json"})


def wrong_values(operation: Operation, service: Service) -> Iterator[Bad]:
    """A wrong type in each field of the body and each query parameter; a required field left out."""
    target, joint = operation.sample.target(service, operation.path), "?"
    if operation.body_schema is not None:
        good = json.loads(operation.sample.raw(service))
        for label, value in _wrong(operation.body_schema, good, operation.schemas):
            yield _body(operation, service, label, value)
    if operation.body_schema is None and operation.method == "GET":
        for one in operation.parameters("query"):
            start = target.partition("?")[0]
            for label, text in _wrong_texts(one["schema"]):
                yield Bad(f"{one['name']} {label}", f"{start}{joint}{one['name']}={text}")
        for one in operation.parameters("query"):
            if one.get("required"):
                yield Bad(f"no {one['name']}", target.partition("?")[0])


def strange_ids(operation: Operation, service: Service) -> Iterator[Bad]:
    """Unknown and malformed ids in the path, in the query, in the body."""
    sample = operation.sample
    body = sample.raw(service)
    for one in operation.parameters("path"):
        for label, text in {"unknown": str(uuid.uuid4()), "unknown number": "987654321", **STRANGE}.items():
            yield Bad(
                f"{one['name']} {label}",
                sample.target(service, operation.path, **{one["name"]: text}),
                body,
                sample.headers(body),
            )
    for one in operation.parameters("query"):
        if _type_names(one["schema"], operation.schemas) >= {"string"} and "enum" not in json.dumps(
            one["schema"]
        ):
            for label, text in STRANGE.items():
                target = f"{operation.path}?{one['name']}={text}"
                if not operation.parameters("path"):
                    yield Bad(
                        f"{one['name']} {label}",
                        target,
                        body,
                        sample.headers(body),
                        or_answered=one["name"] in sample.filters,
                    )
    for name in sample.ids:
        for label, text in _STRANGE_TEXTS.items():
            value = json.loads(body)
            _replace(value, name, text)
            yield _body(operation, service, f"{name} {label}", value)


def strange_texts(operation: Operation, service: Service) -> Iterator[Bad]:
    """Text that no column holds must be refused in every string of the body; odd but sound text may be taken."""
    if operation.body_schema is None:
        return
    good = json.loads(operation.sample.raw(service))
    for path in _strings(good):
        for label, text in _STRANGE_TEXTS.items():
            value = copy.deepcopy(good)
            _put(value, path, text)
            must = label in {"NUL", "half a pair", "10 kB"}
            yield _body(operation, service, f"{path} {label}", value, or_answered=not must)


CATEGORIES: dict[str, Callable[[Operation, Service], Iterator[Bad]]] = {
    "wrong method": wrong_methods,
    "bad JSON": bad_json,
    "unknown field": unknown_fields,
    "wrong type": wrong_values,
    "unknown id": strange_ids,
    "strange text": strange_texts,
}


def _proof(sample: Sample, body: bytes) -> dict[str, str]:
    return {name: value for name, value in sample.headers(body).items() if name != "Content-Type"}


def _body(
    operation: Operation, service: Service, label: str, value: Any, *, or_answered: bool = False
) -> Bad:
    raw = json.dumps(value).encode()
    sample = operation.sample
    return Bad(
        label, sample.target(service, operation.path), raw, sample.headers(raw), or_answered=or_answered
    )


def _with_extra(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for path in [(), *_objects(value)]:
        for name in ("nonsense", "__proto__", "totalCents", "x" * 5_000, "a\nb"):
            changed = copy.deepcopy(value)
            _at(changed, path)[name] = 1
            yield f"{path} {name[:20]!r}", changed


def _wrong(
    schema: dict[str, Any], good: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    for path, names, required in _fields(schema, good, schemas, ()):
        for kind, wrong in _WRONG:
            if kind in names or (kind == "integer" and "number" in names):
                continue
            changed = copy.deepcopy(good)
            _put(changed, path, wrong)
            yield f"{path} {wrong!r}", changed
        if required:
            changed = copy.deepcopy(good)
            del _at(changed, path[:-1])[path[-1]]
            yield f"no {path}", changed


def _fields(
    schema: dict[str, Any], value: Any, schemas: dict[str, Any], path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], set[str], bool]]:
    """(path, JSON types, required) of each field that the sample has."""
    for one in _alternatives(schema, schemas):
        if isinstance(value, dict):
            for name, part in one.get("properties", {}).items():
                if name in value:
                    yield (*path, name), _type_names(part, schemas), name in one.get("required", ())
                    yield from _fields(part, value[name], schemas, (*path, name))
        elif isinstance(value, list) and value and "items" in one:
            yield from _fields(one["items"], value[0], schemas, (*path, 0))


def _alternatives(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in schema:
        return _alternatives(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return [found for part in schema[word] for found in _alternatives(part, schemas)]
    return [schema]


def _type_names(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    return {str(one.get("type", "")) for one in _alternatives(schema, schemas)}


def _wrong_texts(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    alternatives = _alternatives(schema, {})
    names = {one.get("type") for one in alternatives}
    if "integer" in names:
        for text in ("x", "1.5", "", "-1", "0", "9" * 30, "NaN", "1e3", "0x10", "%00", "%D9%A3"):
            yield repr(text), text
    elif "boolean" in names:
        for text in ("perhaps", "", "2", "%00"):
            yield repr(text), text
    elif any("enum" in one for one in alternatives):
        for text in ("nonsense", "%00", "draft,paid", "*"):
            yield repr(text), text
    elif any(one.get("format") == "date" for one in alternatives):
        for text in ("2026-13-40", "yesterday", "%00", "99999-01-01"):
            yield repr(text), text
    longest = max((one.get("maxLength", 0) for one in alternatives), default=0)
    if longest:
        yield "too long", "A" * (longest + 1)


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every object inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inside:
        if isinstance(part, dict):
            yield (*path, name)
        yield from _objects(part, (*path, name))


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inside:
        if isinstance(part, str):
            yield (*path, name)
        yield from _strings(part, (*path, name))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def _put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    _at(value, path[:-1])[path[-1]] = new


def _replace(value: Any, name: str, text: str) -> None:
    """Every `name` inside, also in lists."""
    for path in [(), *_objects(value)]:
        found = _at(value, path)
        if name in found:
            found[name] = [text] if isinstance(found[name], list) else text
