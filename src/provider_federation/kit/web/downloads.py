"""Files to be downloaded: no browser opens them as a page, and nobody keeps them on the way."""

from __future__ import annotations

from django.http import HttpResponse


def csv_download(text: str, name: str) -> HttpResponse:
    """`text` as the file `name`."""
    return download(text.encode(), "text/csv; charset=utf-8", name)


def download(content: bytes, kind: str, name: str) -> HttpResponse:
    """A file of the media type `kind`. `name` is ours: letters, digits, dots and dashes."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(content, content_type=kind, headers=headers)
