"""A person at a page: what its forms say is what is sent, CSRF token and all."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from provider_federation.portal.operators.models import Operator


@dataclass
class Form:
    """A form with what its fields hold, and the words on it."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    words: str = ""


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._now: Form | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "form" and told.get("method") == "post":
            self._now = Form(told.get("action", ""))
            self.found.append(self._now)
        elif self._now is not None and tag == "input" and "name" in told:
            self._now.fields[told["name"]] = told.get("value", "")
        elif self._now is not None and tag == "select":
            self._select = told["name"]
        elif self._now is not None and tag == "option" and self._select:
            first = self._select not in self._now.fields
            if first or "selected" in told:
                self._now.fields[self._select] = told.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._now = None
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._now is not None:
            self._now.words += data


class Person:
    """Signed in with a role. `sees` opens a page, `clicks` sends one of its forms and follows to where it leads."""

    def __init__(self, role: str) -> None:
        self.client = Client(enforce_csrf_checks=True)
        email = f"{role}@example.com"
        operator = Operator.objects.filter(email=email).first() or Operator.objects.create(
            email=email, name=role.title(), role=role
        )
        self.client.force_login(operator, "allauth.account.auth_backends.AuthenticationBackend")
        self.path, self.text = "", ""

    def sees(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        self.path, self.text = path, answer.content.decode()
        return self.text

    def forms(self, words: str) -> list[Form]:
        """Those on the page with these words on them."""
        reader = _Forms()
        reader.feed(self.text)
        return [one for one in reader.found if words in one.words]

    def clicks(self, words: str, **typed: str) -> str:
        """The first button with these words; the page that comes of it."""
        form = self.forms(words)[0]
        return self.sends(form, **typed)

    def sends(self, form: Form, **typed: str) -> str:
        answer: Any = self.client.post(form.action or self.path, {**form.fields, **typed}, follow=True)
        assert answer.status_code == 200, (form.action, answer.status_code)
        self.path, self.text = answer.request["PATH_INFO"], answer.content.decode()
        return self.text
