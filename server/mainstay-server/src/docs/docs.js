// Shows openapi.json. Text only ever becomes text: nothing here reads markup from data.

import { jsonBody } from '../ui/curl.js';

const TOKEN = 'mainstay.token';
const STATUS = { 2: 'good', 4: 'bad', 5: 'warn' };
/** The document. */
let api = null;

function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

// Words between backticks are code.
function prose(text) {
  const parts = String(text ?? '').split('`');
  return parts.map((part, index) => (index % 2 ? h('code', { text: part }) : document.createTextNode(part)));
}

function follow(value) {
  if (!value?.$ref) return value;
  const steps = value.$ref.replace(/^#\//, '').split('/').map((step) => step.replace(/~1/g, '/').replace(/~0/g, '~'));
  return steps.reduce((at, step) => at?.[step], api);
}

const nameOf = (schema) => schema?.$ref?.split('/').at(-1);

// ---- schemas

/** The alternatives of a schema, without `null`; and whether that is one. */
function alternatives(schema) {
  const choices = schema.oneOf ?? schema.anyOf;
  if (!choices) return { choices: [schema], nullable: [].concat(schema.type ?? []).includes('null') };
  const real = choices.filter((choice) => choice.type !== 'null');
  return { choices: real, nullable: real.length < choices.length };
}

function typeOf(schema) {
  const there = follow(schema);
  if (!there) return '?';
  const { choices } = alternatives(there);
  if (there.oneOf || there.anyOf) return choices.map(typeOf).filter((type, index, all) => all.indexOf(type) === index).join(' or ');
  if (there.enum) return there.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (there.const !== undefined) return JSON.stringify(there.const);
  const types = [].concat(there.type ?? []).filter((type) => type !== 'null');
  if (types[0] === 'array') return `${typeOf(there.items)}[]`;
  if (there.allOf || there.properties) return nameOf(schema) ?? 'object';
  if (types[0] === 'object' && there.additionalProperties) return `{ name: ${typeOf(there.additionalProperties)} }`;
  const format = ['date-time', 'uuid', 'uri', 'binary'].includes(there.format) ? ` (${there.format})` : '';
  return types.length ? types.join(' or ') + format : 'any JSON';
}

function limits(schema) {
  const there = follow(schema) ?? {};
  const { choices } = alternatives(there);
  const one = choices.length === 1 ? follow(choices[0]) ?? {} : there;
  const said = [];
  const range = (low, high, what) => {
    if (low !== undefined && high !== undefined) said.push(`${low} to ${high}${what}`);
    else if (low !== undefined && low !== 0) said.push(`at least ${low}${what}`);
    else if (high !== undefined) said.push(`at most ${high}${what}`);
  };
  range(one.minimum, one.maximum, '');
  range(one.minLength, one.maxLength, ' characters');
  range(one.minItems, one.maxItems, ' items');
  if (one.pattern) said.push(one.pattern);
  const initial = schema.default ?? there.default;
  if (initial !== undefined && initial !== null) said.push(`default ${JSON.stringify(initial)}`);
  return said.join(' · ');
}

/** What is inside a schema: objects to unfold. */
function inside(schema, seen = []) {
  const there = follow(schema);
  const name = nameOf(schema);
  if (!there || (name && seen.includes(name))) return [];
  const on = name ? [...seen, name] : seen;
  if (there.oneOf || there.anyOf) return alternatives(there).choices.flatMap((choice) => inside(choice, on));
  if (there.allOf) return [{ name, schema: merged(there.allOf), seen: on }];
  if (there.items) return inside(there.items, on);
  if (there.properties) return [{ name, schema: there, seen: on }];
  if (typeof there.additionalProperties === 'object') return inside(there.additionalProperties, on);
  return [];
}

function merged(parts) {
  const whole = { type: 'object', properties: {}, required: [], anyOf: undefined };
  for (const part of parts) {
    let there = follow(part) ?? {};
    if (there.allOf) there = merged(there.allOf);
    // One of several: shown as if any of their members could be there.
    for (const choice of there.oneOf ?? there.anyOf ?? [there]) {
      const one = follow(choice) ?? {};
      Object.assign(whole.properties, (one.allOf ? merged(one.allOf) : one).properties);
    }
    whole.required.push(...(there.required ?? []));
  }
  return whole;
}

function fields(schema, seen) {
  const required = new Set(schema.required ?? []);
  const names = Object.keys(schema.properties ?? {});
  names.sort((one, other) => required.has(other) - required.has(one));
  return h('dl', { class: 'fields' }, ...names.map((name) => {
    const property = schema.properties[name];
    const { nullable } = alternatives(follow(property) ?? {});
    const detail = property.description ?? follow(property)?.description;
    const limit = limits(property);
    const parts = inside(property, seen);
    return h('div', {},
      h('dt', {}, h('code', { class: 'field', text: name }), ' ', h('span', { class: 'type', text: typeOf(property) }),
        required.has(name) ? h('span', { class: 'must', text: 'required' }) : null,
        nullable && required.has(name) ? h('span', { class: 'soft', text: ' or null' }) : null),
      h('dd', {}, detail ? h('p', {}, ...prose(detail)) : null, limit ? h('p', { class: 'soft' }, limit) : null,
        ...parts.map((part) => unfold(part))));
  }));
}

function unfold({ name, schema, seen }) {
  const details = h('details', {}, h('summary', { text: name ?? 'its fields' }));
  // Built when it is opened: schemas name each other.
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(fields(schema, seen));
  });
  return details;
}

function shape(schema) {
  const parts = inside(schema);
  const there = follow(schema) ?? {};
  if (parts.length === 0) {
    return there.maxProperties === 0 ? h('p', { class: 'soft', text: 'Nothing, or {}.' })
      : h('p', { class: 'type', text: typeOf(schema) });
  }
  if (parts.length > 1) return h('div', {}, h('p', { class: 'soft', text: 'One of:' }), ...parts.map(unfold));
  const [part] = parts;
  const listed = there.items ? h('p', { class: 'soft', text: `a list of ${typeOf(there.items)}` }) : null;
  return h('div', {}, listed, fields(part.schema, part.seen));
}

/** An example: what is required, and nothing else. */
function example(schema, depth = 0) {
  const there = follow(schema);
  if (!there || depth > 6) return null;
  if (there.default !== undefined) return there.default;
  if (there.examples?.length) return there.examples[0];
  if (there.enum) return there.enum[0];
  if (there.const !== undefined) return there.const;
  const { choices } = alternatives(there);
  if (there.oneOf || there.anyOf) return example(choices[0], depth + 1);
  const whole = there.allOf ? merged(there.allOf) : there;
  if (whole.properties) {
    const required = whole.required ?? [];
    return Object.fromEntries(required.map((name) => [name, example(whole.properties[name] ?? {}, depth + 1)]));
  }
  const type = [].concat(whole.type ?? [])[0];
  if (type === 'array') return [example(whole.items, depth + 1)];
  if (type === 'integer' || type === 'number') return whole.minimum ?? 1;
  if (type === 'boolean') return true;
  if (type === 'string') return whole.format === 'uuid' ? '00000000-0000-7000-8000-000000000000' : '…';
  return type === 'object' ? {} : null;
}

// ---- operations

function curl(path, method, operation) {
  const servers = operation.servers ?? [{ url: new URL('.', location.href).href }];
  const base = servers[0].url.replace(/\/$/, '');
  const words = ['curl'];
  if (method === 'get') words.push('-s');
  else if (method !== 'post') words.push('-X', method.toUpperCase());
  if (operation.security?.length && sessionStorage.getItem(TOKEN)) words.push('-H "authorization: Bearer $MAINSTAY_AUTH_TOKEN"');
  const schema = operation.requestBody?.content?.['application/json']?.schema;
  if (schema) {
    const body = follow(schema)?.maxProperties === 0 ? {} : example(schema);
    words.push(jsonBody(body));
  }
  if (Object.values(operation.responses).some((response) => response.content?.['application/vnd.sqlite3'])) words.push('-o copy.db');
  // Names in the path are the shell's to fill in.
  const filled = path.replace(/{(\w+)}/g, (_, name) => `$${name.toUpperCase()}`);
  return `${words.join(' ')} \\\n  "${base}${filled}"`;
}

function copyable(text) {
  const code = h('pre', { class: 'curl', text });
  const button = h('button', { type: 'button', text: 'Copy', onclick: async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
    } catch {
      // Only secure origins may write to the clipboard: select it instead.
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  } });
  return h('div', { class: 'copyable' }, code, button);
}

function parameters(operation) {
  const all = (operation.parameters ?? []).map(follow);
  if (all.length === 0) return [];
  return [h('h4', { text: 'Parameters' }), h('dl', { class: 'fields' }, ...all.map((parameter) => h('div', {},
    h('dt', {}, h('code', { class: 'field', text: parameter.name }), ' ',
      h('span', { class: 'type', text: typeOf(parameter.schema) }), h('span', { class: 'soft', text: ` in ${parameter.in}` }),
      parameter.required ? h('span', { class: 'must', text: 'required' }) : null),
    h('dd', {}, h('p', {}, ...prose(parameter.description)),
      limits(parameter.schema) ? h('p', { class: 'soft', text: limits(parameter.schema) }) : null))))];
}

function body(operation) {
  const { requestBody } = operation;
  if (!requestBody) return [];
  const parts = Object.entries(requestBody.content).flatMap(([type, content]) => (type === 'application/x-ndjson'
    ? [h('p', { class: 'soft' }, 'Or ', h('code', { text: type }), ': one ', h('code', { text: typeOf(content.schema) }), ' a line.')]
    : [h('p', { class: 'soft' }, h('code', { text: type }), requestBody.required ? '' : ', may be left out'), shape(content.schema)]));
  return [h('h4', { text: 'Body' }), ...parts];
}

function answers(operation) {
  const all = Object.entries(operation.responses);
  const status = (code) => h('span', { class: `status ${STATUS[code[0]]}`, text: code });
  const good = all.filter(([, response]) => !response['x-codes']);
  const bad = all.filter(([, response]) => response['x-codes']);
  const shown = good.map(([code, response]) => {
    const [type, content] = Object.entries(response.content ?? {})[0] ?? [];
    const parts = content ? inside(content.schema) : [];
    return h('div', { class: 'answer' }, h('p', {}, status(code), ' ', ...prose(response.description),
      type && type !== 'application/json' ? h('code', { text: ` ${type}` }) : null,
      content && parts.length === 0 ? h('span', { class: 'type', text: ` ${typeOf(content.schema)}` }) : null),
    ...parts.map(unfold));
  });
  const table = h('table', {}, h('tbody', {}, ...bad.map(([code, response]) => h('tr', {},
    h('td', {}, status(code)), h('td', {}, ...prose(response.description))))));
  const problem = bad[0]?.[1].content?.['application/problem+json']?.schema;
  return [h('h4', { text: 'Answers' }), ...shown,
    ...(bad.length ? [h('details', {}, h('summary', { text: `${bad.length} kinds of errors` }), table,
      ...(problem ? inside(problem).map(unfold) : []))] : [])];
}

function show(path, method, operation) {
  const scopes = operation.security?.flatMap((way) => Object.values(way).flat()) ?? [];
  const line = copyable(curl(path, method, operation));
  document.addEventListener('token', () => { line.firstChild.textContent = curl(path, method, operation); });
  return h('section', { class: 'operation', id: operation.operationId },
    h('h3', {}, h('a', { href: `#${operation.operationId}`, text: operation.summary })),
    h('p', { class: 'call' }, h('span', { class: `method ${method}`, text: method.toUpperCase() }), ' ', h('code', { text: path })),
    operation.description ? h('p', {}, ...prose(operation.description)) : null,
    scopes.length ? h('p', { class: 'soft' }, 'Needs ', ...scopes.flatMap((scope, index) => [index ? ' and ' : '', h('code', { text: scope })]),
      ' once tokens exist.') : h('p', { class: 'soft', text: 'Needs no token.' }),
    line, ...parameters(operation), ...body(operation), ...answers(operation));
}

function render() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) => Object.entries(item)
    .map(([method, operation]) => ({ path, method, operation })));
  operations.sort((one, other) => one.operation['x-order'] - other.operation['x-order']);
  const main = document.getElementById('main');
  const contents = document.getElementById('contents');
  document.getElementById('version').textContent = api.info.version;
  main.replaceChildren(h('h1', { text: 'API reference' }), h('p', {}, ...prose(api.info.description)),
    h('p', { class: 'soft' }, 'For programs: ', h('a', { href: 'openapi.json', text: 'openapi.json' }),
      ` (OpenAPI ${api.openapi}).`));
  contents.replaceChildren();
  for (const tag of api.tags) {
    const own = operations.filter(({ operation }) => operation.tags.includes(tag.name));
    main.append(h('h2', { text: tag.name }), h('p', { class: 'soft' }, ...prose(tag.description)),
      ...own.map(({ path, method, operation }) => show(path, method, operation)));
    contents.append(h('div', { class: 'group' }, h('strong', { text: tag.name }), ...own.map(({ path, method, operation }) =>
      h('a', { href: `#${operation.operationId}`, 'data-words': `${method} ${path} ${operation.summary}`.toLowerCase() },
        h('span', { class: `dot ${method}`, title: method.toUpperCase() }), operation.summary))));
  }
  main.removeAttribute('aria-busy');
  // The anchor was not there yet when the browser looked for it.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

document.getElementById('find').addEventListener('input', (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const link of document.querySelectorAll('#contents a')) link.hidden = !link.dataset.words.includes(wanted);
});
const token = document.getElementById('token');
token.value = sessionStorage.getItem(TOKEN) ?? '';
token.addEventListener('input', () => {
  if (token.value.trim()) sessionStorage.setItem(TOKEN, token.value.trim());
  else sessionStorage.removeItem(TOKEN);
  document.dispatchEvent(new Event('token'));
});

try {
  const response = await fetch('openapi.json');
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  api = await response.json();
  render();
} catch (error) {
  document.getElementById('main').replaceChildren(
    h('p', { class: 'bad', text: `openapi.json cannot be shown: ${error.message}` }));
}
