"""Every amount of the fourteen months, worked out by hand from money.md. This table is the truth: when the product
says something else, the product is wrong. Amounts are cents.

Billing months are calendar months of Europe/Berlin: 1 h ahead of UTC in winter, 2 h from 2028-03-26 to 2028-10-29.
A is on PRO ($97) after a trial, ELITE ($297) from the middle of leap February, PRO again from the end of September,
and cancelled at the end of the year. B is on PRO from 2028-01-10 on. A lead is $100, AI usage is capped at $50.
"""

from __future__ import annotations

from dataclasses import dataclass

PRO, ELITE, LEAD, CAP = 97_00, 297_00, 100_00, 50_00

# What happens in the clients' apps: leads by the instant of their conversion (UTC), AI calls by their exact cost in
# dollars. Midnights: 2028-02-01 is 01-31 23:00 UTC, 04-01 is 03-31 22:00 UTC, 10-01 is 09-30 22:00, 11-01 is 10-31 23:00.
A_HAPPENINGS = [
    ("lead", "A-1", "2027-12-20T10:00:00+00:00"),
    ("ai", "4.115", "2027-12-21T10:00:00+00:00"),  # three times 4.115 is 12.345: rounded once it is 12.35,
    ("ai", "4.115", "2027-12-22T10:00:00+00:00"),  # each by itself it would be 12.36
    ("ai", "4.115", "2027-12-23T10:00:00+00:00"),
    ("lead", "A-2", "2028-01-31T22:59:59.999+00:00"),  # January's last millisecond
    ("ai", "49.994", "2028-01-15T10:00:00+00:00"),  # 49.99, under the cap
    ("lead", "A-3", "2028-01-31T23:00:00+00:00"),  # midnight: February's first instant
    ("lead", "A-freed", "2028-02-15T10:00:00+00:00"),
    ("lead", "A-kept", "2028-02-16T10:00:00+00:00"),
    ("lead", "A-4", "2028-02-29T22:59:59+00:00"),  # the last second of the leap day
    ("ai", "50.005", "2028-02-20T10:00:00+00:00"),  # 50.01, capped at 50.00
    ("lead", "A-5", "2028-02-29T23:00:00+00:00"),  # midnight: March
    ("lead", "A-6", "2028-03-31T21:59:59+00:00"),  # the last second of March, summer time by now
    ("ai", "0.005", "2028-03-20T10:00:00+00:00"),  # half a cent is rounded up to 0.01
    ("lead", "A-7", "2028-03-31T22:00:00+00:00"),  # midnight: April
    ("ai", "7.50", "2028-05-20T10:00:00+00:00"),
    ("lead", "A-8", "2028-08-08T10:00:00+00:00"),
    ("ai", "64.20", "2028-08-09T10:00:00+00:00"),  # capped at 50.00
    ("lead", "A-9", "2028-09-30T21:59:59+00:00"),  # the last second of September
    ("lead", "A-10", "2028-09-30T22:00:00+00:00"),  # midnight: October
    ("lead", "A-11", "2028-10-31T22:30:00+00:00"),  # 23:30 in October, winter time by now
    ("ai", "33.333", "2028-10-29T00:30:00+00:00"),  # 02:30 local, for the first time; 33.33
    ("lead", "A-12", "2028-10-31T23:00:00+00:00"),  # midnight: November
    ("lead", "A-13", "2028-12-10T10:00:00+00:00"),
    ("ai", "1.00", "2028-12-11T10:00:00+00:00"),
    ("lead", "A-14", "2029-01-15T10:00:00+00:00"),
]
B_HAPPENINGS = [
    ("lead", "B-1", "2028-01-20T10:00:00+00:00"),
    ("ai", "10.00", "2028-02-10T10:00:00+00:00"),
    ("lead", "B-2", "2028-03-15T10:00:00+00:00"),
    ("ai", "20.004", "2028-03-16T10:00:00+00:00"),  # 20.00
    ("lead", "B-4", "2028-04-12T10:00:00+00:00"),
    ("lead", "B-5", "2028-05-10T10:00:00+00:00"),
    ("lead", "B-6", "2028-06-08T10:00:00+00:00"),
    ("ai", "5.00", "2028-06-09T10:00:00+00:00"),
    ("ai", "2.345", "2028-07-09T10:00:00+00:00"),  # 2.35
    ("lead", "B-7", "2028-08-08T10:00:00+00:00"),
    ("lead", "B-8", "2028-08-09T10:00:00+00:00"),
    ("ai", "1.004", "2028-09-09T10:00:00+00:00"),  # 1.00
    ("lead", "B-9", "2028-10-08T10:00:00+00:00"),
    ("lead", "B-10", "2028-12-08T10:00:00+00:00"),
    ("ai", "50.00", "2028-12-09T10:00:00+00:00"),  # the cap, to the cent
    ("lead", "B-11", "2029-01-08T10:00:00+00:00"),
]
# Known in May only, when March was billed long ago: the next run bills them as late, up to what March's cap leaves:
# 20.004 + 40.00 = 60.004, capped at 50.00, of which 20.00 were billed: 30.00.
B_LATE = [("lead", "B-3", "2028-03-20T10:00:00+00:00"), ("ai", "40.00", "2028-03-25T10:00:00+00:00")]
# The freed lead converts anew, and is billed again for July.
A_AGAIN = [("again", "A-freed", "2028-07-05T10:00:00+00:00")]


@dataclass(frozen=True)
class Line:
    """`late_for` is the month in which a late one arose."""

    kind: str
    quantity: int
    cents: int
    late_for: str = ""


def leads(count: int, late_for: str = "") -> Line:
    return Line("leads", count, count * LEAD, late_for)


def ai(cents: int, late_for: str = "") -> Line:
    return Line("ai", 1, cents, late_for)


# The usage invoices of each month: (of A, of B). An empty list is no invoice at all.
USAGE: dict[str, tuple[list[Line], list[Line]]] = {
    "2027-12": ([leads(1), ai(12_35)], []),  # 112.35
    "2028-01": ([leads(1), ai(49_99)], [leads(1)]),  # 149.99 | 100.00
    "2028-02": ([leads(4), ai(50_00)], [ai(10_00)]),  # 450.00 | 10.00
    "2028-03": ([leads(2), ai(1)], [leads(1), ai(20_00)]),  # 200.01 | 120.00
    "2028-04": ([leads(1)], [leads(1)]),  # 100.00 | 100.00
    "2028-05": ([ai(7_50)], [leads(1), leads(1, "2028-03"), ai(30_00, "2028-03")]),  # 7.50 | 230.00
    "2028-06": ([], [leads(1), ai(5_00)]),  # 105.00
    "2028-07": ([leads(1)], [ai(2_35)]),  # 100.00 (the freed one) | 2.35
    "2028-08": ([leads(1), ai(50_00)], [leads(2)]),  # 150.00 | 200.00
    "2028-09": ([leads(1)], [ai(1_00)]),  # 100.00 | 1.00
    "2028-10": ([leads(2), ai(33_33)], [leads(1)]),  # 233.33 | 100.00
    "2028-11": ([leads(1)], []),  # 100.00
    "2028-12": ([leads(1), ai(1_00)], [leads(1), ai(50_00)]),  # 101.00 | 150.00
    "2029-01": ([leads(1)], [leads(1)]),  # 100.00 | 100.00
}


@dataclass(frozen=True)
class Month:
    """The invoices made final in a month, as they stand at its end, and what recurs at its end.

    `fees` and `usage` are totals; outstanding and overdue are over all months. `later_credited` and
    `later_refunded` happen to these invoices after the month; what is outstanding then is paid at the very end.
    """

    fees: int
    usage: int
    credited: int
    paid: int
    outstanding: int
    overdue: int
    mrr: int
    moved: tuple[str, int] = ("", 0)
    later_credited: int = 0
    later_refunded: int = 0
    later_paid: int = 0

    @property
    def gross(self) -> int:
        return self.fees + self.usage


MONTHS: dict[str, Month] = {
    # A's trial of 14 days ends 12-31 12:00 UTC: 97.00.
    "2027-12": Month(97_00, 0, 0, 97_00, 0, 0, PRO, ("new", PRO)),
    # A 97.00 on the 31st, B's first 97.00 on the 10th; usage of December 112.35. All paid.
    "2028-01": Month(194_00, 112_35, 0, 306_35, 0, 0, 194_00, ("new", PRO)),
    # A's upgrade on 02-15 00:00: 14.5 of 29 days are left, so -48.50 + 148.50 = 100.00; its 297.00 on the 29th; B 97.00:
    # 494.00. Usage 149.99 + 100.00 = 249.99. B's 100.00 is open: 643.99 paid.
    "2028-02": Month(494_00, 249_99, 0, 643_99, 100_00, 0, 394_00, ("expansion", 200_00), later_paid=100_00),
    # 297.00 + 97.00; 450.00 + 10.00, of it 100.00 credited before A paid. In May another 100.00 goes back.
    "2028-03": Month(
        394_00, 460_00, 100_00, 754_00, 0, 0, 394_00, later_credited=100_00, later_refunded=100_00
    ),
    "2028-04": Month(394_00, 320_01, 0, 714_01, 0, 0, 394_00),
    "2028-05": Month(394_00, 200_00, 0, 594_00, 0, 0, 394_00),
    # B's card fails on the 10th, and it pays on the 20th.
    "2028-06": Month(394_00, 237_50, 0, 631_50, 0, 0, 394_00),
    "2028-07": Month(394_00, 105_00, 0, 499_00, 0, 0, 394_00),
    "2028-08": Month(394_00, 102_35, 0, 496_35, 0, 0, 394_00),
    # A's 97.00 again, from 09-30 12:00 UTC; B's usage of August stays open, and is due on 10-02.
    "2028-09": Month(
        194_00, 350_00, 0, 344_00, 200_00, 0, 194_00, ("contraction", -200_00), later_paid=200_00
    ),
    "2028-10": Month(194_00, 101_00, 0, 295_00, 0, 0, 194_00),
    "2028-11": Month(194_00, 333_33, 0, 527_33, 0, 0, 194_00),
    # A ends on 12-31 12:00 UTC: B's 97.00 only.
    "2028-12": Month(97_00, 100_00, 0, 197_00, 0, 0, 97_00, ("churn", -PRO)),
    "2029-01": Month(97_00, 251_00, 0, 348_00, 0, 0, 97_00),
}
# The run of January 2029 is made in February: 100.00 + 100.00.
LAST_RUN = 200_00
# 97.00 + 306.35 + 743.99 + 854.00 + 714.01 + 594.00 + 631.50 + 499.00 + 496.35 + 544.00 + 295.00 + 527.33 + 197.00
# + 348.00 = 6,847.53; with the last run 7,047.53. Credited 200.00, given back 100.00. Paid is what was billed, and the
# 100.00 that A paid and got back: 7,047.53 - 100.00 (credited before it was paid).
GROSS, CREDITED, REFUNDED, PAID = 7_047_53, 200_00, 100_00, 6_947_53

# What each instance counts at the very end: leads, and the exact AI cost in dollars. A-freed has left February for
# July; B's late ones are in March.
USED: dict[str, tuple[tuple[int, str], tuple[int, str]]] = {
    "2027-12": ((1, "12.345"), (0, "0")),
    "2028-01": ((1, "49.994"), (1, "0")),
    "2028-02": ((3, "50.005"), (0, "10")),
    "2028-03": ((2, "0.005"), (2, "60.004")),
    "2028-04": ((1, "0"), (1, "0")),
    "2028-05": ((0, "7.5"), (1, "0")),
    "2028-06": ((0, "0"), (1, "5")),
    "2028-07": ((1, "0"), (0, "2.345")),
    "2028-08": ((1, "64.2"), (2, "0")),
    "2028-09": ((1, "0"), (0, "1.004")),
    "2028-10": ((2, "33.333"), (1, "0")),
    "2028-11": ((1, "0"), (0, "0")),
    "2028-12": ((1, "1"), (1, "50")),
    "2029-01": ((1, "0"), (1, "0")),
}

# Single events.
FACTS = {
    "trial": {"status": "trialing", "ends": "2027-12-31T12:00:00Z"},
    # 14.5 days of the 29 from 01-31 12:00 to 02-29 12:00: half of 97.00 back, half of 297.00 to pay.
    "upgrade": {
        "now": 100_00,
        "next": ELITE,
        "lines": [-48_50, 148_50],
        "carried out": 100_00,
        "same second": True,
        "plan": "ELITE",
    },
    # 450.00 - 100.00
    "kept lead": {
        "state": "accepted",
        "freed": False,
        "credited": 100_00,
        "refunded": 0,
        "left to pay": 350_00,
    },
    "freed lead": {"state": "accepted", "freed": True, "credited": 100_00, "refunded": 100_00},
    "rejected": {"state": "rejected", "freed": False, "credited": 0, "refunded": 0},
    # Both were filed by the clients themselves; this is what their own lists say then.
    "told A": ("A-freed", "accepted", "They are right.", "yes"),
    "told B": ("B-4", "rejected", "It did convert.", ""),
    # The invoice was due on 06-10 10:00; the grace of 7 days was over on 06-17 10:00.
    "B on 06-11": ("past_due", "PRO", "full"),
    "B on 06-18": ("past_due", "PRO", "restricted"),
    "B on 06-20": ("active", "PRO", "full"),
    "dunning of June": [("day -3", "skipped", PRO), ("day 1", "sent", PRO), ("day 7", "sent", PRO)],
    "downgrade": {
        "state": "scheduled",
        "now": 0,
        "at": "2028-09-30T12:00:00Z",
        "plan until then": "ELITE",
    },
    # August's usage was due on 10-02 09:00: 21 days later is 10-23 09:00.
    "overdue on 10-23": 200_00,
    "dunning by CLI": ["day", "21", "escalate", "sent"],
    "B on 10-23": ("active", "PRO", "restricted"),
    "B on 10-24": ("active", "PRO", "full"),
    "dunning of August's usage": [
        ("day -3", "sent", 200_00),
        ("day 1", "skipped", 200_00),
        ("day 7", "skipped", 200_00),
        ("day 14", "skipped", 200_00),
        ("day 21", "sent", 200_00),
    ],
    "cancellation": {"status": "active", "at the end": True, "ends": "2028-12-31T12:00:00Z"},
    "plans": {"A": ("canceled", "BASE", "base"), "B": ("active", "PRO", "full")},
    # B's January, due on 03-03: three days before is the leap day. Then its June, then its August.
    "mails": ["$100.00 is due soon", "$97.00 is overdue", "$97.00 is overdue", "$200.00 is due soon"],
}
