"""The committed vectors as our own values."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from provider_federation.protocol import Key, Keyring, Policy, Request, Response

FOLDER = Path(__file__).parents[3] / "vectors"


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return content


def request_of(fields: dict[str, Any], *more: list[str]) -> Request:
    headers = [(name, value) for name, value in [*fields["headers"], *more]]
    return Request(
        fields["method"],
        fields["target"],
        fields["authority"],
        headers,
        base64.b64decode(fields["body_base64"]),
    )


def response_of(fields: dict[str, Any]) -> Response:
    headers = [(name, value) for name, value in fields["headers"]]
    return Response(fields["status"], headers, base64.b64decode(fields["body_base64"]))


def keyring_of(content: dict[str, Any]) -> Keyring:
    return Keyring(map(_key, content["keys"]))


def _key(fields: dict[str, Any]) -> Key:
    material = {
        name.removesuffix("_base64"): base64.b64decode(value)
        for name, value in fields.items()
        if name.endswith("_base64")
    }
    return Key(**{name: value for name, value in fields.items() if not name.endswith("_base64")}, **material)


def policy_of(fields: dict[str, Any], **special: Any) -> Policy:
    return Policy(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (fields | special).items()
        }
    )
