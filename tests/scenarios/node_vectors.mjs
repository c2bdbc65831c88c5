import { readFileSync } from "node:fs";
const lib = await import(process.argv[2]); const dir = process.argv[3];
const load = (n) => JSON.parse(readFileSync(`${dir}/${n}`));
const key = (f) => ({ ...f, secret: Buffer.from(f.secret_base64, "base64"), public_key: Buffer.from(f.public_key_base64 ?? "", "base64") });
const msg = (f, more = []) => ({ ...f, headers: [...f.headers, ...more], body: Buffer.from(f.body_base64, "base64") });
const attempt = (f) => { try { f(); return null; } catch (e) { if (!(e instanceof lib.Refused)) throw e; return e.message; } };
const pol = (p) => ({ ...p, seen: new Set(), usedV2: new Set() });
let n = 0, bad = 0; const check = (name, got, want) => { n++; if (JSON.stringify(got) !== JSON.stringify(want)) { bad++; console.log(name, "got", got, "want", want); } };
for (const c of load("legacy.json").cases) for (const a of ["h31", "sha256"]) check(c.name, lib.legacyTag(a, Buffer.from(c.secret), c.method, c.target, c.timestamp), c[a]);
const v2 = load("v2.json"), keys = v2.keys.map(key);
for (const c of v2.cases) {
  check(c.name, attempt(() => lib.verify(msg(c.request, c.added), keys, pol(v2.policy), { now: v2.now })), null);
  if (c.sign) { const k = keys.find((k) => k.id === c.key), m = msg(c.request); 
    const [input, sig] = c.added.slice(-2).map(([, v]) => v.slice(3)), items = input.slice(1, input.indexOf(")")).split(" "), whole = msg(c.request, c.added);
    check(c.name + " base", lib.baseOf(whole, items, input).toString(), c.signature_base);
    check(c.name + " tag", `:${lib.makeTag(k, lib.baseOf(whole, items, input)).toString("base64")}:`, sig);
    const again = { ...m, headers: [...m.headers, ...lib.sign(m, k, { now: v2.now, ...c.sign })] };
    check(c.name + " own", attempt(() => lib.verify(again, keys, pol(v2.policy), { now: v2.now })), null); }
}
const res = load("responses.json");
for (const c of res.cases) check(c.name, attempt(() => lib.verifyResponse(msg(c.response), msg(c.request), res.keys.map(key), { now: res.now })), c.code);
const ref = load("refusals.json");
for (const c of ref.cases) { const p = pol({ ...ref.policy, ...c.policy }), k = ref.keys.map(key); for (const b of c.before ?? []) lib.verify(msg(b), k, p, { now: ref.now }); check(c.name, attempt(() => lib.verify(msg(c.request), k, p, { now: ref.now })), c.code); }
console.log(n, bad);
