"""Static files under ASGI: WhiteNoise with whole answers.

WhiteNoise answers with an iterator over the file; under ASGI Django reads such an answer into memory before it
sends, and warns every time. Our files are small, so they are read in one piece to begin with.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise has no types
    """In the place of `whitenoise.middleware.WhiteNoiseMiddleware`, with the same settings."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        answer = static_file.get_response(request.method, request.META)
        content = b""
        if answer.file is not None:
            with answer.file as file:
                content = file.read()
        return HttpResponse(content, status=int(answer.status), headers=dict(answer.headers))
