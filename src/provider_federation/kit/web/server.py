"""The HTTP server's own refusals in the contract's shape: what cannot be read as HTTP never reaches an application."""

from __future__ import annotations

import json
import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_BODY = json.dumps(
    {"ok": False, "error": "This is not an HTTP request that can be read.", "reason": "bad_request"}
).encode()


class JsonHttpProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=JsonHttpProtocol)`: answers 400 as JSON with a request id, and ends the connection."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are for its log
        """Uvicorn's hook for a request that its parser refused."""
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"x-request-id: {secrets.token_hex(8)}\r\ncontent-length: {len(_BODY)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + _BODY)
        self.transport.close()
