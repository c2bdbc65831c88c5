"""The account over a real socket: deadlines, error codes, headers, complete and bounded pages, and no key in any message."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import pytest

from provider_federation.stripe_account import StripeAccount, StripeFailed

KEY = "sk_test_51verysecretverysecret"
CUSTOMER = {
    "id": "cus_1",
    "object": "customer",
    "created": 1_800_000_000,
    "metadata": {},
    "name": "A",
    "email": None,
}


@pytest.fixture
def server():
    """Answers with what `answers` holds next: (status, body, headers), or a function of the handler."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            length = int(self.headers.get("content-length") or 0)
            self.server.requests.append((self.path, dict(self.headers), self.rfile.read(length).decode()))
            answer = self.server.answers.pop(0)
            if callable(answer):
                answer(self)
                return
            status, body, headers = answer
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(raw)), "request-id": "req_1", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_DELETE = do_GET  # noqa: N815  the names that http.server calls

        def log_message(self, *arguments):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass

    made = Quiet(("127.0.0.1", 0), Handler)
    made.answers, made.requests, made.released = [], [], threading.Event()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()


def account(server: socketserver.BaseServer, **options) -> StripeAccount:
    return StripeAccount(KEY, f"http://127.0.0.1:{server.server_address[1]}", **options)


def fails(call, *arguments, **named) -> StripeFailed:
    with pytest.raises(StripeFailed) as failed:
        call(*arguments, **named)
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None or "secret" not in str(failed.value.__cause__)
    return failed.value


def error(kind="invalid_request_error", message="Something", **more):
    return {"error": {"type": kind, "message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "retryable", "unknown"),
    [
        (400, error(code="parameter_unknown"), {}, "parameter_unknown", False, False),
        (400, error(), {}, "invalid_request", False, False),
        (400, error("idempotency_error"), {}, "idempotency_mismatch", False, False),
        (401, error(message=f"Invalid API Key provided: {KEY}"), {}, "not_authorised", False, False),
        (402, error("card_error", code="card_declined", param=""), {}, "card_declined", False, False),
        (403, error(), {}, "not_authorised", False, False),
        (404, error(code="resource_missing", param="id"), {}, "resource_missing", False, False),
        (409, error("idempotency_error", code="idempotency_key_in_use"), {}, "key_in_use", True, True),
        (429, error(code="rate_limit"), {}, "rate_limited", True, False),
        (429, error(code="lock_timeout"), {}, "rate_limited", True, False),
        (500, error("api_error"), {"Idempotent-Replayed": "true"}, "stripe_unavailable", True, True),
        (502, b"<html>bad gateway sk_live_secret</html>", {}, "stripe_unavailable", True, True),
        (503, b"", {}, "stripe_unavailable", True, True),
        (200, b"not json", {}, "bad_answer", True, True),
        (200, b"\xff\xfe", {}, "bad_answer", True, True),
        (200, [], {}, "bad_answer", True, True),
        (200, {"object": "customer"}, {}, "bad_answer", False, True),
    ],
)
def test_failures_have_codes(server, status, body, headers, code, retryable, unknown):
    server.answers = [(status, body, headers)]
    failure = fails(account(server).create_customer, name="A", email=None, metadata={}, idempotency_key="k")
    assert (failure.code, failure.retryable, failure.outcome_unknown) == (code, retryable, unknown)
    assert failure.replayed == ("Idempotent-Replayed" in headers)
    if code != "bad_answer":
        assert failure.status == status


def test_nobody_listens():
    failure = fails(StripeAccount(KEY, "http://127.0.0.1:9").retrieve_account)
    assert (failure.code, failure.status, failure.retryable) == ("connection_failed", 0, True)


def drop(handler):
    handler.close_connection = True
    handler.connection.shutdown(2)


def test_a_dropped_connection(server):
    server.answers = [drop]
    assert fails(account(server).retrieve_customer, "cus_1").outcome_unknown


def trickle(handler):
    """A byte now and then: always within the time between two bytes, never done."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()
    except OSError:
        handler.close_connection = True


def test_a_trickling_server_holds_nobody_longer_than_the_deadline(server):
    server.answers = [trickle]
    began = monotonic()
    failure = fails(account(server, timeout=0.3).retrieve_customer, "cus_1")
    assert monotonic() - began < 2
    assert (failure.code, failure.retryable, failure.outcome_unknown) == ("connection_failed", True, True)


def test_no_retry_of_its_own(server):
    server.answers = [(500, error("api_error"), {}), (200, CUSTOMER, {})]
    fails(account(server).retrieve_customer, "cus_1")
    assert len(server.requests) == 1


def test_the_key_the_version_and_the_idempotency_key_go_along(server):
    server.answers = [(200, CUSTOMER, {})]
    account(server).create_customer(
        name="A", email="", metadata={"pf_customer": "c"}, idempotency_key="pf/c/1"
    )
    path, headers, body = server.requests[0]
    assert path == "/v1/customers"
    assert headers["Idempotency-Key"] == "pf/c/1"
    assert headers["Stripe-Version"] == "2026-10-28.endive"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert parse_qs(body) == {"name": ["A"], "metadata[pf_customer]": ["c"]}


def test_no_write_without_an_idempotency_key(server):
    with pytest.raises(ValueError, match="idempotency"):
        account(server).void_invoice("in_1", idempotency_key="")


def page(first, count, *, more):
    rows = [
        {**CUSTOMER, "id": f"cus_{number}", "metadata": {"n": str(number % 3)}}
        for number in range(first, first + count)
    ]
    return 200, {"object": "list", "data": rows, "has_more": more, "url": "/v1/customers"}, {}


def test_lists_are_read_to_their_end(server):
    server.answers = [page(0, 100, more=True), page(100, 100, more=True), page(200, 7, more=False)]
    found = account(server).list_customers(metadata={"n": "1"})
    assert [customer.id for customer in found][:2] == ["cus_1", "cus_4"]
    assert len(found) == 69
    queries = [parse_qs(urlsplit(path).query) for path, _, _ in server.requests]
    assert [query.get("starting_after") for query in queries] == [None, ["cus_99"], ["cus_199"]]


@pytest.mark.parametrize(
    "body", [{"object": "list"}, {"object": "list", "data": [{}]}, {"object": "list", "data": 1}, CUSTOMER]
)
def test_a_list_that_is_none(server, body):
    server.answers = [(200, body, {})]
    assert fails(account(server).list_customers).code == "bad_answer"


def test_a_list_that_never_ends_is_an_error_and_not_a_part(server):
    server.answers = [page(number * 100, 100, more=True) for number in range(10)]
    assert fails(account(server).list_customers, most=300).code == "too_many"
    assert len(server.requests) == 3


def test_threads_share_one_account(server):
    server.answers = [(200, CUSTOMER, {})] * 16
    used, seen = account(server), []
    threads = [
        threading.Thread(target=lambda: seen.append(used.retrieve_customer("cus_1").id)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["cus_1"] * 16


def test_the_key_is_in_no_repr():
    assert KEY not in repr(StripeAccount(KEY))
    with pytest.raises(ValueError, match="secret key"):
        StripeAccount("")
