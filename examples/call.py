"""Call a federated app as a portal would: `python call.py http://127.0.0.1:8000/api/billing/list ['{"json": "body"}']`.

SECRET and INSTANCE_NAME are the app's. Prints the answer, which counts only when the app has signed it for this request.
"""

import os
import sys

import httpx

from provider_federation.adapters.httpx import FederationTransport
from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.protocol import Key


def main(url: str, body: str = "") -> int:
    key = Key("portal-1", "hmac-sha256", os.environ["SECRET"].encode())
    signer = Signer(key, instance=os.environ.get("INSTANCE_NAME", "acme"))
    with httpx.Client(transport=FederationTransport(signer)) as client:
        try:
            answer = (
                client.post(url, content=body, headers={"Content-Type": "application/json"})
                if body
                else client.get(url)
            )
        except AnswerRefused as refused:
            print(f"no answer that counts: {refused}", file=sys.stderr)
            return 1
    print(answer.status_code, answer.text)
    return 0 if answer.is_success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
