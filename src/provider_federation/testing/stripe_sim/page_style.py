"""How the hosted invoice page looks: one inline stylesheet, and the policy that allows nothing but it."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--ink:#1a1f36;--soft:#5b6478;--line:#e3e8ee;--card:#fff;--page:#f6f8fb;
--go:#4f46e5;--good:#0e7a4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#edf0f7;--soft:#a6afc3;--line:#2c3347;--card:#171b2a;
--page:#0e111b;--go:#5b54ea;--good:#4ccb91;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
.note{background:#fdf1c7;color:#5c4300;text-align:center;padding:.5rem 1rem;font-size:.875rem}
main{max-width:44rem;margin:2rem auto;padding:0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.5rem;margin-bottom:1rem}
h1{font-size:2rem;margin:.25rem 0;font-variant-numeric:tabular-nums}
h2{font-size:1rem;margin:0 0 .75rem}
.soft{color:var(--soft)}
.row{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.5rem 1.5rem;align-items:flex-start}
.tag{border-radius:1rem;padding:.125rem .75rem;font-size:.875rem;border:1px solid currentColor}
.paid{color:var(--good)}
.void,.uncollectible{color:var(--bad)}
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1.5rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
table{width:100%;border-collapse:collapse}
th{font-weight:500;color:var(--soft);font-size:.875rem;text-align:left}
th,td{padding:.5rem .25rem;border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tfoot td{border:0}
tfoot tr:last-child{font-weight:650}
label{display:block;font-size:.875rem;margin-bottom:.25rem}
input{width:100%;font:inherit;padding:.625rem .75rem;border:1px solid var(--line);border-radius:.5rem;
background:var(--page);color:inherit}
button{width:100%;margin-top:.75rem;font:inherit;font-weight:600;padding:.75rem;border:0;border-radius:.5rem;
background:var(--go);color:#fff;cursor:pointer}
button:hover{filter:brightness(1.1)}
:focus-visible{outline:3px solid var(--go);outline-offset:2px}
a{color:inherit}
p{margin:1rem 0 0}
.error{color:var(--bad);margin:0 0 .75rem}
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
