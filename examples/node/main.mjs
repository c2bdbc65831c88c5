// Tries federation.mjs on the wire. CONFIG is a JSON file: {keys, policy, answering, options}, keys as in ../../vectors.
//   node main.mjs call CONFIG KEY METHOD URL [BODY]   signs with `options`, sends, verifies the answer, prints it
//   node main.mjs serve CONFIG PORT                   a small instance: verifies, answers what it saw, signed by `answering`
import { readFileSync } from "node:fs";
import http from "node:http";
import { buffer } from "node:stream/consumers";
import { Refused, isLegacy, sign, signLegacy, signResponse, verify, verifyResponse } from "./federation.mjs";

const seconds = () => Date.now() / 1000;
const bytes = (text) => Buffer.from(text ?? "", "base64");
const withBytes = (key) => ({ ...key, secret: bytes(key.secret_base64), public_key: bytes(key.public_key_base64) });

async function call({ keys, options }, id, method, url, text = "") {
  const { host, pathname, search } = new URL(url), key = keys.find((known) => known.id === id);
  const headers = text ? [["Content-Type", "application/json"]] : [];
  const request = { method, target: pathname + search, authority: host, headers, body: Buffer.from(text) };
  headers.push(...(isLegacy(key) ? signLegacy : sign)(request, key, { now: seconds(), ...options }));
  const answer = await fetch(url, { method, headers, body: text || undefined });
  const response = { status: answer.status, headers: [...answer.headers], body: Buffer.from(await answer.arrayBuffer()) };
  const signedBy = isLegacy(key) ? null : verifyResponse(response, request, keys, { now: seconds() }).id;
  console.log(JSON.stringify({ status: response.status, signedBy, body: JSON.parse(response.body) }));
}

function statusOf(code) {
  if (/^(scope_not_allowed|org_mismatch)$/.test(code)) return 403;
  return /^(malformed_(header|digest|signature_input)|bad_(framing|method|scope|target)|duplicate|ambiguous|non_)/.test(code) ? 400 : 401;
}

function serve({ keys, policy, answering }, port) {
  Object.assign(policy, { seen: new Set(), usedV2: new Set() });
  const server = http.createServer(async (incoming, outgoing) => {
    const raw = incoming.rawHeaders, headers = raw.flatMap((name, at) => (at % 2 ? [] : [[name, raw[at + 1]]]));
    const { method, url: target } = incoming, authority = incoming.headers.host ?? "";
    const request = { method, target, authority, headers, body: await buffer(incoming) };
    const response = { status: 200, headers: [["Content-Type", "application/json"]] };
    let content, signer;
    try {
      const proven = verify(request, keys, policy, { now: seconds() });
      signer = proven.signer;
      content = { ok: true, method, target, key: proven.key.id, scope: proven.scope, bytes: request.body.length };
    } catch (error) {
      signer = error.signer;
      response.status = error instanceof Refused ? statusOf(error.message) : 500;
      content = { ok: false, error: "Refused.", reason: error instanceof Refused ? error.message : "internal_error" };
    }
    response.body = Buffer.from(JSON.stringify(content));
    const answeringKey = signer?.algorithm === "ed25519" ? keys.find((key) => key.id === answering) : signer;
    if (signer) response.headers.push(...signResponse(response, request, answeringKey, { now: seconds() }));
    outgoing.writeHead(response.status, response.headers.flat()).end(response.body);
  });
  server.listen(Number(port), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
}

const [command, file, ...rest] = process.argv.slice(2), run = { call, serve }[command];
if (!run || !rest.length) {
  console.error("node main.mjs call CONFIG KEY METHOD URL [BODY] | node main.mjs serve CONFIG PORT");
  process.exit(2);
}
const config = JSON.parse(readFileSync(file));
await run({ ...config, keys: config.keys.map(withBytes) }, ...rest);
