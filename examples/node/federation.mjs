// Provider Federation for Node 20, standard library only: signs and verifies, legacy and v2. README.md says how to try it.
// A key: {id, algorithm, scope, secret, public_key, ...}; secret and public_key are Buffers (ed25519: seed and key, 32 bytes
// each). A request: {method, target, authority, headers: [[name, value]], body: Buffer}. Times are seconds since 1970.
import crypto from "node:crypto";
const TAG = { pf: "provider-federation-v2", "pf-res": "provider-federation-v2-response" };
const ALWAYS = ["@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope"];
const WHEN_SENT = ["x-provider-org", "idempotency-key", "content-digest"], WITH_BODY = ["content-digest", "content-type"];
const ANSWER = ['"@status"', '"content-digest"', '"content-type"', '"signature";req;key="pf"'];
const ITEM = '"@?[a-z0-9-]+"(?:;[a-z]+(?:="[a-z]+")?)*', PARAMETER = '[a-z]+=(?:0|[1-9]\\d{0,14}|"[ !#-\\[\\]-~]*")';
const INPUT = new RegExp(`^([a-z][a-z0-9-]*)=(\\(((?:${ITEM}(?: ${ITEM})*)?)\\)((?:;${PARAMETER})*))$`);
const SIGNATURE = /^([a-z][a-z0-9-]*)=:((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?):$/;
const SAFE = ["GET", "HEAD", "OPTIONS"], METHODS = [...SAFE, "POST", "PUT", "PATCH", "DELETE"];
const ODD_PATH = /%(?:2[d-f]|3[0-9b]|4[1-9a-f]|5[0-9acf]|6[1-9a-f]|7[0-9ae])|\/\/|[;\\]|\/\.\.?(?=\/|$)/i;

export class Refused extends Error {} // message: the code; signer: the key, where the signature was good all the same
const refuse = (code, signer) => { throw Object.assign(new Refused(code), { signer }); };
const same = (a, b) => a.length === b.length && crypto.timingSafeEqual(a, b);
const all = (message, name) => message.headers.filter(([given]) => given.toLowerCase() === name).map(([, value]) => value);
const one = (message, name) => (all(message, name).length > 1 ? refuse("duplicate_header") : all(message, name)[0]);
const host = (authority) => authority.toLowerCase().replace(/:(80|443)$/, "");
export const isLegacy = (key) => ["h31", "sha256"].includes(key.algorithm);
function keyOf(keys, id, now) {
  const key = keys.find((known) => known.id === id) ?? refuse("unknown_key");
  if (key.revoked) refuse("revoked_key");
  return now < key.not_before ? refuse("key_not_yet_valid") : now > key.not_after ? refuse("expired_key") : key;
}
// Legacy: METHOD SP TARGET SP TIMESTAMP. h31 protects nothing.
export function legacyTag(algorithm, secret, method, target, timestamp) {
  const line = Buffer.from(`${method} ${target} ${timestamp}`);
  if (algorithm === "sha256") return `sha256:${crypto.createHmac("sha256", secret).update(line).digest("hex")}`;
  return `h31:${Buffer.concat([line, secret]).reduce((h, byte) => (Math.imul(h, 31) + byte) >>> 0, 0).toString(16)}`;
}
export function signLegacy(request, key, { now, scope = "provider", org }) {
  const timestamp = new Date(Math.floor(now * 1000)).toISOString(), { method, target } = request;
  const tag = legacyTag(key.algorithm, key.secret, method, target, timestamp);
  const named = { KeyId: key.id, Timestamp: timestamp, Signature: tag, Scope: scope, Org: org };
  return Object.entries(named).filter(([, value]) => value).map(([name, value]) => [`X-Provider-${name}`, value]);
}
function proveLegacy(request, keys, policy, now) {
  const given = ["keyid", "timestamp", "signature"].map((name) => one(request, `x-provider-${name}`) ?? refuse("missing_headers"));
  const [id, timestamp, tag] = given, key = keyOf(keys, id, now), isSafe = SAFE.includes(request.method);
  if (!isLegacy(key) || now >= policy.legacy_until || policy.usedV2.size) refuse("downgrade_refused");
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(timestamp) || !(Date.parse(timestamp) > 0)) refuse("bad_timestamp");
  if (Math.abs(now - Date.parse(timestamp) / 1000) > policy.skew) refuse("timestamp_out_of_window");
  const good = legacyTag(key.algorithm, key.secret, request.method, request.target, timestamp);
  return same(Buffer.from(good), Buffer.from(tag)) ? { key, once: isSafe ? undefined : tag } : refuse("bad_signature");
}
// v2: a profile of RFC 9421 and RFC 9530.
const mac = (key, base) => crypto.createHmac("sha256", key.secret).update(base).digest();
const der = (type, prefix, raw) => ({ key: Buffer.concat([Buffer.from(prefix, "hex"), raw]), format: "der", type });
const digest = (body, name = "sha-256") => `${name}=:${crypto.createHash(name.replace("-", "")).update(body).digest("base64")}:`;
const privateKey = (key) => crypto.createPrivateKey(der("pkcs8", "302e020100300506032b657004220420", key.secret));
const publicKey = (key) => crypto.createPublicKey(der("spki", "302a300506032b6570032100", key.public_key));
export const makeTag = (key, base) => (key.algorithm === "ed25519" ? crypto.sign(null, base, privateKey(key)) : mac(key, base));
const isGood = (key, base, tag) => (key.algorithm === "ed25519" ? crypto.verify(null, base, publicKey(key), tag) : same(mac(key, base), tag));
export function baseOf(message, items, parameters, request) {
  const [path, ...query] = (message.target ?? "").split("?"), derived = { "@path": path, "@query": `?${query.join("?")}` };
  Object.assign(derived, { "@method": message.method, "@authority": host(message.authority ?? ""), "@status": message.status });
  const valueOf = (name) => derived[name] ?? one(message, name) ?? refuse("missing_headers");
  const lines = items.map((item) => `${item}: ${item === ANSWER[3] ? one(request, "signature").slice(3) : valueOf(item.slice(1, -1))}`);
  return Buffer.from([...lines, `"@signature-params": ${parameters}`].join("\n"));
}
function needed(request) {
  const names = [...ALWAYS, ...WHEN_SENT.filter((name) => all(request, name).length), ...(request.body.length ? WITH_BODY : [])];
  return [...new Set(names)].map((name) => `"${name}"`);
}
function sealed(message, items, window, key, label, request) {
  const parameters = `(${items.join(" ")});${window};keyid="${key.id}";alg="${key.algorithm}";tag="${TAG[label]}"`;
  const tag = makeTag(key, baseOf(message, items, parameters, request)).toString("base64");
  return [["Signature-Input", `${label}=${parameters}`], ["Signature", `${label}=:${tag}:`]];
}
export function sign(request, key, { now, instance, scope = "provider", org, nonce = crypto.randomBytes(18).toString("base64url") }) {
  const added = [["X-Provider-Instance", instance], ["X-Provider-Scope", scope], ...(org ? [["X-Provider-Org", org]] : [])];
  if (request.body.length && !all(request, "content-digest").length) added.push(["Content-Digest", digest(request.body)]);
  const whole = { ...request, headers: [...request.headers, ...added] }, created = Math.floor(now);
  return [...added, ...sealed(whole, needed(whole), `created=${created};expires=${created + 300};nonce="${nonce}"`, key, "pf")];
}
export function signResponse(response, request, key, { now }) {
  const added = [["Content-Digest", digest(response.body)]], whole = { ...response, headers: [...response.headers, ...added] };
  return [...added, ...sealed(whole, ANSWER, `created=${Math.floor(now)}`, key, "pf-res", request)];
}
function readSignature(message, label) {
  const [input, signature] = ["signature-input", "signature"].map((name) => one(message, name) ?? refuse("missing_headers"));
  if (input.split("=(").length > 2 || signature.includes(",")) refuse("ambiguous_auth");
  const [, inputLabel, parameters, list, rest] = INPUT.exec(input) ?? refuse("malformed_signature_input");
  const pairs = rest.match(new RegExp(PARAMETER, "g")) ?? [], items = list ? list.split(" ") : [];
  const given = Object.fromEntries(pairs.map((pair) => [pair.split("=", 1)[0], JSON.parse(pair.slice(pair.indexOf("=") + 1))]));
  const allowed = label === "pf" ? ALWAYS.map((name) => `"${name}"`) : ANSWER;
  const isForeign = (item) => /^"@|;/.test(item) && !allowed.includes(item);
  const isTwice = pairs.length !== Object.keys(given).length || new Set(items).size !== items.length;
  const [, tagLabel, encoded] = SIGNATURE.exec(signature) ?? refuse("malformed_signature");
  if (isTwice || items.some(isForeign) || !Number.isInteger(given.created)) refuse("malformed_signature_input");
  if (tagLabel !== inputLabel) refuse("malformed_signature");
  if (!/^[!#-+\--[\]-~]{1,128}$/.test(given.keyid ?? "")) refuse("malformed_header");
  const isOurs = inputLabel === label && given.alg && given.tag === TAG[label];
  return { parameters, items, given, isOurs, tag: Buffer.from(encoded, "base64") };
}
function checkDigest(message, signer) {
  for (const part of one(message, "content-digest").split(/ *, */)) {
    const [, name] = SIGNATURE.exec(part) ?? refuse("malformed_digest");
    if (!["sha-256", "sha-512"].includes(name)) refuse("digest_algorithm_not_allowed", signer);
    if (part !== digest(message.body, name)) refuse("digest_mismatch", signer);
  }
}
function prove(message, keys, { accept, skew }, now, label, required, request) {
  const { parameters, items, given, isOurs, tag } = readSignature(message, label), key = keyOf(keys, given.keyid, now);
  if (!accept.includes(key.algorithm) || (given.alg && given.alg !== key.algorithm)) refuse("algorithm_not_allowed");
  if (required.some((item) => !items.includes(item))) refuse("insufficient_coverage");
  const isBrief = given.created < given.expires && given.expires <= given.created + 300 && now <= given.expires;
  const late = Math.abs(now - given.created) > skew ? "timestamp_out_of_window" : label === "pf" && !isBrief ? "bad_expires" : "";
  if (label === "pf" && !/^[A-Za-z0-9+/_-]{22,128}={0,2}$/.test(given.nonce ?? "")) refuse("bad_nonce");
  if (!isOurs) refuse("malformed_signature_input");
  if (!isGood(key, baseOf(message, items, parameters, request), tag)) refuse("bad_signature");
  return late ? refuse(late, key) : { key, once: given.nonce };
}
export function verifyResponse(response, request, keys, { now, skew = 300 }) {
  const { key } = prove(response, keys, { accept: ["hmac-sha256", "ed25519"], skew }, now, "pf-res", ANSWER, request);
  checkDigest(response);
  return key;
}
function checkShape(request, policy) {
  if (request.headers.length > 100 || request.headers.flat().some((text) => text.length > 8192)) refuse("headers_too_large");
  if (all(request, "host").length > 1) refuse("bad_framing");
  const ours = request.headers.filter(([name]) => /^(x-provider-|signature)/i.test(name));
  if (ours.some(([, value]) => !/^[!-~]([ -~]*[!-~])?$/.test(value))) refuse("malformed_header");
  if (!METHODS.includes(request.method)) refuse("bad_method");
  if (!/^\/(?:[\w.~!$&'()*+,;=:@/?[\]\\-]|%[0-9A-Fa-f]{2})*$/.test(request.target)) refuse("bad_target");
  if (ODD_PATH.test(request.target.split("?")[0])) refuse("non_canonical_target");
  if (all(request, "content-encoding").length) refuse("content_encoding_not_allowed");
  if (request.body.length > (policy.max_body ?? 1_048_576)) refuse("body_too_large");
}
// policy: {instance, org, authorities, accept, skew, seen: Set, usedV2: Set}; a real instance shares the sets between processes.
export function verify(request, keys, policy, { now }) {
  checkShape(request, policy);
  const isV2 = [...all(request, "signature"), ...all(request, "signature-input")].length > 0;
  if (isV2 && all(request, "x-provider-signature").length) refuse("ambiguous_auth");
  const { key, once } = isV2 ? prove(request, keys, policy, now, "pf", needed(request)) : proveLegacy(request, keys, policy, now);
  const signer = isV2 ? key : undefined, deny = (code) => refuse(code, signer);
  if (isV2 && request.body.length) checkDigest(request, key);
  const meant = [one(request, "x-provider-instance"), key.instance, policy.instance].filter(Boolean);
  if (new Set(meant).size > 1 || (isV2 && !policy.authorities.includes(host(request.authority)))) deny("audience_mismatch");
  const scope = one(request, "x-provider-scope") ?? key.scope, org = one(request, "x-provider-org") ?? key.org;
  if (!["read", "provider"].includes(scope)) deny("bad_scope");
  if (scope === "provider" && key.scope === "read") deny("scope_not_allowed");
  if (org && [key.org, policy.org].some((bound) => bound && bound !== org)) deny("org_mismatch");
  if (once && policy.seen.size === policy.seen.add(`${key.id} ${once}`).size) deny("replayed");
  if (isV2) policy.usedV2.add("");
  return { key, scope, org, signer };
}
