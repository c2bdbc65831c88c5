"""An owner of an instance, at its own pages: signs in, opens them, and sends their forms."""

from __future__ import annotations

import csv
import io
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.cookiejar import CookieJar

from provider_federation.demo.client import CallFailed, refusal

_TIMEOUT = 30.0
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Owner:
    """`base` is the instance's address. Each call raises CallFailed when the page is not there or refuses."""

    base: str
    opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    )

    @classmethod
    def signed_in(cls, base: str, email: str, password: str) -> Owner:
        """Over the page, as a person."""
        owner = cls(base)
        owner.sends("/sign-in", email=email, password=password)
        return owner

    def sees(self, path: str) -> str:
        """The page."""
        return self._open(path, None)

    def sends(self, path: str, **fields: str) -> str:
        """Fill in the form of this page; the page that comes of it."""
        found = _TOKEN.search(self.sees(path))
        if found is None:
            raise CallFailed(f"{self.base}{path} has no form to send")
        form = {**fields, "csrfmiddlewaretoken": found[1]}
        return self._open(path, urllib.parse.urlencode(form).encode())

    def disputes_lead(self, lead_id: str, words: str) -> None:
        """On the lead's own page."""
        self.sends(f"/leads/{lead_id}/dispute", claim=words)

    def disputes(self) -> list[dict[str, str]]:
        """What the owner downloads as CSV, newest first."""
        return list(csv.DictReader(io.StringIO(self.sees("/disputes.csv"))))

    def _open(self, path: str, form: bytes | None) -> str:
        try:
            with self.opener.open(self.base + path, form, timeout=_TIMEOUT) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            raise refusal(f"{self.base}{path}", error) from None
        except OSError as error:
            raise CallFailed(f"{self.base}{path}: {error}") from None
