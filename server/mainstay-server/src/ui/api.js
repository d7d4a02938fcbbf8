// Asking the API.

const base = new URL('..', location.href);
const TOKEN = 'mainstay.token';
const TIME_LIMIT = 10000;

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? '',
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/** What went wrong: `status` 0 when there was no answer, `code` as in the contract. */
export class Failure extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** Where the API is, as a line for a shell needs it. */
export const url = (path) => new URL(path, base).href;

/** Asks; answers `{ status, body, bytes }`. Throws a `Failure` unless the status is 2xx or `accept`ed. */
export async function call(method, path, { body, signal, accept = [] } = {}) {
  const headers = {};
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const limit = AbortSignal.timeout(TIME_LIMIT);
  let response;
  let text;
  try {
    response = await fetch(url(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      cache: 'no-store',
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, 'unreachable', limit.aborted ? 'the server does not answer' : 'the server cannot be reached');
  }
  const read = parse(text);
  if (!response.ok && !accept.includes(response.status)) {
    // The detail names a single wrong field already.
    const wrong = read?.errors?.length > 1 ? read.errors.map((error) => `${error.pointer} ${error.detail}`) : [];
    const detail = [read?.detail ?? `the server answered ${response.status}`, wrong.join('; ')].filter(Boolean).join(': ');
    throw new Failure(response.status, read?.code ?? String(response.status), detail);
  }
  return { status: response.status, body: read, bytes: text.length };
}

export const get = async (path, options) => (await call('GET', path, options)).body;
export const post = async (path, body = {}) => (await call('POST', path, { body })).body;

/** Every page of a list, up to `most` items; `more` says that there would be others. */
export async function all(path, signal, most = 5000) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(`${path}?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`, { signal });
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, more: cursor !== null };
}

// Integers beyond 2^53 are kept as they stand, where the browser can.
function exact(_key, value, context) {
  const tooLong = typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '');
  return tooLong && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

function parse(text) {
  try {
    return text ? JSON.parse(text, exact) : null;
  } catch {
    return null;
  }
}

/** JSON for people. */
export const pretty = (value) => JSON.stringify(value, null, 2) ?? '';
