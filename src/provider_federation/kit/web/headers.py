"""The headers of every answer to a browser."""

from __future__ import annotations

from django.http.response import HttpResponseBase


def secure(response: HttpResponseBase, *, path: str, content_policy: str, hsts_seconds: int) -> None:
    """Set what the response does not say itself; nothing that a signed-in person sees is kept by a cache.

    `hsts_seconds` 0: none is sent. It binds the host alone: the domain above it, and what else lives there, is not ours.
    """
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_policy)
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
    # Django sends it over HTTPS only, and the proxy in front speaks HTTP to us; browsers heed it over HTTPS only.
    if hsts_seconds:
        headers.setdefault("Strict-Transport-Security", f"max-age={hsts_seconds}")
    if not path.startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
