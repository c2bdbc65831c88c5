"""How long each report takes over 10,000, 30,000 and 100,000 invoices in the embedded database, and how that
grows.

`make bench-reports` fills a database of its own, measures each report's query (best and median of several), prints
the table and writes the section of docs/performance.md between its two markers.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZES = (10_000, 30_000, 100_000)
CLIENTS = 1_000
ROUNDS = 7
BUDGET_MS = 300.0
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench-reports -->", "<!-- /bench-reports -->"


def main() -> int:
    """Measure, print, write; 1 when a report is over its budget at the largest size."""
    with tempfile.TemporaryDirectory(prefix="pf-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101  the database runs as a user of its own when we are root
        _prepare(Path(folder))
        times = {size: _measure(size) for size in SIZES}
        _close()
    lines = _table(times)
    print("\n".join(lines))
    _write(lines)
    return 1 if max(times[SIZES[-1]].values()) > BUDGET_MS else 0


def _prepare(folder: Path) -> None:
    os.environ["PROVIDER_FEDERATION_ENV"] = "development"
    os.environ["PORTAL_DATA_DIR"] = str(folder / "portal")
    os.environ["DJANGO_SETTINGS_MODULE"] = "provider_federation.portal.settings"
    from provider_federation.portal.database import embedded_database

    os.environ["DATABASE_URL"] = embedded_database(folder / "postgres")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)


def _close() -> None:
    from django.db import connections

    connections.close_all()


def _measure(size: int) -> dict[str, float]:
    _fill(size)
    return {name: _time(work) for name, work in _reports().items()}


def _reports() -> dict[str, Callable[[], object]]:
    from provider_federation.portal.reports import queries
    from provider_federation.portal.reports.window import window_asked

    whole = window_asked("2022-01", "2026-12")
    year = window_asked("2026-01", "2026-12")
    return {
        "owed by month, 60 months": lambda: queries.owed(whole, "month"),
        "owed by client, 60 months": lambda: queries.owed(whole, "client"),
        "owed by month, 12 months": lambda: queries.owed(year, "month"),
        "revenue by kind and month, 60 months": lambda: queries.revenue_by_kind(whole, "month"),
        "revenue by kind and client, 60 months": lambda: queries.revenue_by_kind(whole, "client"),
        "revenue by kind and month, 12 months": lambda: queries.revenue_by_kind(year, "month"),
        "MRR and its movement, 60 months": lambda: queries.mrr(whole),
        "AI cost by month, 60 months": lambda: queries.ai_usage(whole, "month"),
        "AI cost by client, 60 months": lambda: queries.ai_usage(whole, "client"),
        "coverage": queries.covered,
    }


def _time(work: Callable[[], object]) -> float:
    """The median in ms, after a first time that warms the cache."""
    work()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def _fill(size: int) -> None:
    """Half of the invoices are for usage (each with a line of leads and one of AI usage), half of subscriptions;
    spread over 1,000 clients and 60 months.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE directory_instance, revenue_usageinvoice, revenue_usageline, revenue_usagesnapshot,"
            " subscriptions_subscription, subscriptions_subscriptioninvoice, subscriptions_planchange CASCADE"
        )
        for statement in _statements(size // 2):
            cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")


def _statements(half: int) -> list[str]:
    per_month = "timestamptz '2022-01-01 00:00+00' + ((n % 60) || ' months')::interval"
    client = "(SELECT array_agg(id ORDER BY name) FROM directory_instance)"
    usage = """jsonb_build_object('aiCost', (n % 90)::text || '.123456', 'currency', 'usd', 'leads',
        (SELECT jsonb_agg(jsonb_build_array('lead-' || n || '-' || k, 'L-' || k, '2026-01-01T00:00:00+00:00',
        'sha256:' || repeat('0', 64))) FROM generate_series(1, 5) k))"""
    return [
        _insert("directory_instance", f"generate_series(1, {CLIENTS}) n", {
            "id": "gen_random_uuid()", "name": "'c' || n", "title": "'Client ' || n", "org_id": "'org_' || n",
            "base_url": "'http://127.0.0.1:1'", "currency": "'usd'", "enabled": "true",
            "created_at": "now()", "updated_at": "now()",
        }),
        _insert("subscriptions_subscription", "directory_instance i", {
            "id": "gen_random_uuid()", "instance_id": "i.id", "plan": "'PRO'", "status": "'active'",
            "fee_cents": "9700", "currency": "'usd'", "created_at": "now()", "updated_at": "now()",
            "billing_details": "'{}'", "snapshot": "'{}'",
        }),
        _insert("subscriptions_planchange", "subscriptions_subscription s, generate_series(0, 5) n", {
            "instance_id": "s.instance_id", "subscription_id": "s.id",
            "plan": "(ARRAY['PRO', 'ELITE', 'BASE'])[1 + n % 3]",
            "effective_at": "timestamptz '2022-01-05 00:00+00' + (n * 9 || ' months')::interval",
            "recorded_at": "now()", "reason": "'bench'",
        }),
        _insert("subscriptions_subscriptioninvoice",
            f"(SELECT n, (SELECT array_agg(id ORDER BY id) FROM subscriptions_subscription) AS s,"
            f" {per_month} AS at FROM generate_series(1, {half}) n) x JOIN subscriptions_subscription sub"
            f" ON sub.id = x.s[1 + (x.n / 60) % {CLIENTS}]", {
            "instance_id": "sub.instance_id", "subscription_id": "sub.id", "status": "'paid'",
            "stripe_invoice_id": "'in_s' || n", "currency": "'usd'", "billed_at": "at", "finalized_at": "at",
            "total_cents": "9700", "due_cents": "9700", "paid_cents": "9700",
        }),
        _insert("revenue_usageinvoice",
            f"(SELECT n, {client} AS c, {per_month} AS at FROM generate_series(1, {half}) n) x", {
            "id": "gen_random_uuid()", "instance_id": f"c[1 + (n / 60) % {CLIENTS}]", "kind": "'usage'",
            "order_key": "'usage:' || n", "period": f"to_char(at, 'YYYY-MM') || CASE WHEN n / 60 >= {CLIENTS} THEN '+' ELSE '' END",
            "period_start": "at", "period_end": "at + interval '1 month'", "status": "CASE WHEN n % 10 = 0 THEN 'open' ELSE 'paid' END",
            "plan": "'PRO'", "usage": usage, "usage_digest": "''", "asked_by": "'bench'",
            "created_at": "at", "updated_at": "at", "finalized_at": "at + interval '1 month'",
            "stripe_invoice_id": "'in_u' || n", "currency": "'usd'", "total_cents": "51000", "due_cents": "51000",
            "paid_cents": "CASE WHEN n % 10 = 0 THEN 0 ELSE 51000 END",
            "remaining_cents": "CASE WHEN n % 10 = 0 THEN 51000 ELSE 0 END",
        }),
        _insert("revenue_usageline", "revenue_usageinvoice u, generate_series(1, 2) n", {
            "invoice_id": "u.id", "position": "n", "kind": "CASE n WHEN 1 THEN 'leads' ELSE 'ai' END",
            "description": "'a line'", "quantity": "CASE n WHEN 1 THEN 5 ELSE 1 END",
            "amount_cents": "CASE n WHEN 1 THEN 50000 ELSE 1000 END", "evidence": "'{}'", "late_for": "''",
        }),
        _insert("revenue_usagesnapshot", "revenue_usageinvoice u", {
            "instance_id": "u.instance_id", "period": "u.period", "usage": "u.usage", "digest": "''",
            "seen_at": "now()",
        }),
    ]  # fmt: skip


def _insert(table: str, source: str, given: dict[str, str]) -> str:
    """INSERT … SELECT with every other column that may not be null filled with its type's nothing."""
    columns = {**_nothing(table), **given}
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {source}"


def _nothing(table: str) -> dict[str, str]:
    from django.db import connection

    empty = {"character varying": "''", "text": "''", "jsonb": "'{}'", "boolean": "false"}
    query = """SELECT column_name, data_type FROM information_schema.columns
        WHERE table_name = %s AND is_nullable = 'NO' AND is_identity = 'NO'"""
    with connection.cursor() as cursor:
        cursor.execute(query, [table])
        return {name: empty.get(kind, "0") for name, kind in cursor.fetchall() if name != "id"}


def _table(times: dict[int, dict[str, float]]) -> list[str]:
    small, large = SIZES[0], SIZES[-1]
    lines = [
        f"| report | {' | '.join(f'{size:,} invoices' for size in SIZES)} | growth | of the {BUDGET_MS:.0f} ms |",
        f"|---|{'---:|' * (len(SIZES) + 2)}",
    ]
    for name in times[large]:
        cells = " | ".join(f"{times[size][name]:.1f} ms" for size in SIZES)
        growth, share = times[large][name] / times[small][name], times[large][name] / BUDGET_MS
        lines.append(f"| {name} | {cells} | {growth:.1f} | {share:.2f} |")
    about = (
        f"Median of {ROUNDS}, embedded PostgreSQL, {CLIENTS:,} clients; `growth` is the time at {large:,} over that"
        f" at {small:,} ({large // small} times the invoices)."
    )
    return [*lines, "", about]


def _write(lines: list[str]) -> None:
    """Our own section of docs/performance.md; the others' stay as they are."""
    section = "\n".join([BEGIN, "## Reports (`make bench-reports`)", "", *lines, END])
    text = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        text = before + section + rest.split(END, 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
