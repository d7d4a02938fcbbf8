// What there is to see: all queues, one queue, one job.

import { all, call, post, pretty, token, url } from './api.js';
import { jsonBody } from './curl.js';
import { ago, badge, copyable, count, exactly, h, say, span, sync, tell } from './dom.js';

const STATES = ['available', 'running', 'scheduled', 'retryable', 'blocked', 'dead'];
const ALL_STATES = ['scheduled', 'blocked', 'available', 'running', 'retryable', 'completed', 'cancelled', 'dead'];
const PAGE = 25;
/** A list longer than this is only read again when somebody asks. */
const TOO_LONG = 512 * 1024;

const queuePath = (name) => `v1/queues/${encodeURIComponent(name)}`;
const queueLink = (name, query = '') => `#/queues/${encodeURIComponent(name)}${query}`;
const jobLink = (id) => `#/jobs/${encodeURIComponent(id)}`;

// ---- all queues

/** Every queue with its depths. */
export function overview(page) {
  const tiles = h('div', { class: 'tiles' });
  const filter = h('input', { type: 'search', placeholder: 'Find a queue', 'aria-label': 'Find a queue', oninput: show });
  const rows = h('tbody');
  const columns = ['Queue', ...STATES, 'oldest waiting', ''];
  const table = h('table', { class: 'queues' }, h('thead', {}, h('tr', {}, ...columns.map((text, index) =>
    h('th', { text, class: index > 0 && index < 8 ? 'number' : '' })))), rows);
  const note = h('p', { class: 'note' });
  const empty = h('div', {});
  const element = h('section', {}, tiles, h('div', { class: 'bar' }, h('h1', { text: 'Queues' }),
    h('span', { class: 'grow' }), filter), h('div', { class: 'panel' }, table), note, empty);
  let queues = null;

  function show() {
    if (!queues) return;
    const wanted = filter.value.trim().toLowerCase();
    const shown = queues.items.filter((queue) => queue.name.toLowerCase().includes(wanted));
    table.parentElement.hidden = queues.items.length === 0;
    filter.hidden = queues.items.length < 8 && !wanted;
    totals(tiles, queues.items);
    sync(rows, shown, (queue) => queue.name, (queue) => queueRow(page, queue));
    const none = wanted && shown.length === 0 ? 'No queue has a name like that. ' : '';
    tell(note, none + (queues.more ? `Only the first ${count(queues.items.length)} queues are shown.` : ''));
    if (queues.items.length > 0) empty.replaceChildren();
    else if (!empty.firstChild) empty.replaceChildren(...firstSteps());
  }
  return {
    element,
    async refresh(signal) {
      queues = await all('v1/queues', signal);
      show();
    },
  };
}

function totals(tiles, queues) {
  const sums = STATES.map((state) => ({
    state,
    sum: queues.reduce((sum, queue) => sum + (queue.depth[state] ?? 0), 0),
  }));
  tiles.hidden = queues.length === 0;
  sync(tiles, sums, ({ state }) => state, ({ state }) => tile(state));
}

function tile(state) {
  const number = h('strong', {});
  const element = h('div', { class: `tile is-${state}` }, number, h('span', { text: state }));
  return {
    element,
    update({ sum }) {
      say(number, count(sum));
      element.classList.toggle('zero', sum === 0);
    },
  };
}

function queueRow(page, { name }) {
  const paused = h('span', { class: 'badge is-paused', text: 'paused' });
  const cells = Object.fromEntries(STATES.map((state) => [state, h('td', { class: 'number', 'data-label': state })]));
  const oldest = h('td', { class: 'number', 'data-label': 'oldest waiting' });
  const pause = pauseButton(page, name);
  const element = h('tr', {},
    h('td', { class: 'name' }, h('a', { href: queueLink(name), text: name }), ' ', paused),
    ...STATES.map((state) => cells[state]), oldest, h('td', { class: 'does' }, pause.element));
  return {
    element,
    update(queue) {
      paused.hidden = !queue.paused;
      for (const state of STATES) {
        say(cells[state], count(queue.depth[state] ?? 0));
        cells[state].className = `number is-${state}${queue.depth[state] ? '' : ' zero'}`;
      }
      say(oldest, span(queue.oldest_available_age_ms));
      oldest.classList.toggle('zero', queue.oldest_available_age_ms === null);
      pause.update(queue);
    },
  };
}

function pauseButton(page, name) {
  let paused = false;
  const element = h('button', { type: 'button', class: 'small', onclick: () => page.act(element, async () => {
    const now = await post(`${queuePath(name)}/${paused ? 'resume' : 'pause'}`);
    return `${name} is ${now.paused ? 'paused: it takes jobs and hands out none' : 'handing out jobs again'}.`;
  }) });
  return {
    element,
    update(queue) {
      paused = queue.paused;
      say(element, paused ? 'Resume' : 'Pause');
      element.setAttribute('aria-label', `${paused ? 'Resume' : 'Pause'} ${name}`);
    },
  };
}

// Nothing is there yet: how that changes.
function firstSteps() {
  const as = token.get() ? '-H "authorization: Bearer $MAINSTAY_AUTH_TOKEN" ' : '';
  const line = (path, body) => copyable(`curl ${as}${jsonBody(body)} \\\n  ${url(path)}`);
  return [
    h('div', { class: 'panel padded' },
      h('h2', { text: 'No queue yet' }),
      h('p', { text: 'A queue comes into being with its first job. Make one:' }),
      line('v1/queues/hello/jobs', { kind: 'greet', payload: { name: 'Ada' } }),
      h('p', { text: 'It shows up here within two seconds. Take it, as a worker would:' }),
      line('v1/jobs/claim', { queues: ['hello'] }),
      h('p', {}, 'The answer holds a ', h('code', { text: 'lease' }), ': complete the job with it, by ',
        h('code', { text: 'POST /v1/jobs/{id}/complete' }), '. Everything else is in the ',
        h('a', { href: '../docs', text: 'API reference' }), '.')),
  ];
}

// ---- one queue

/** One queue: its depths, its newest jobs, its dead letters. */
export function queueView(page, name, params) {
  const tab = params.get('tab') === 'dead' ? 'dead' : 'jobs';
  const filters = Object.fromEntries(['state', 'kind', 'tag'].map((key) => [key, params.get(key) ?? '']));
  const paused = h('span', { class: 'badge is-paused', text: 'paused', hidden: true });
  const pause = pauseButton(page, name);
  pause.element.hidden = true;
  const oldest = h('span', { class: 'note' });
  const tiles = h('div', { class: 'tiles' });
  const config = h('p', { class: 'note' });
  const deadCount = h('span', {});
  const missing = h('p', { class: 'note' });
  const list = jobList(page, name, tab, filters);
  const link = (to, text, more) => h('a', { href: queueLink(name, to === 'dead' ? '?tab=dead' : ''), text,
    'aria-current': to === tab ? 'page' : undefined }, ...(more ? [more] : []));
  const element = h('section', {},
    h('nav', { class: 'crumbs' }, h('a', { href: '#/', text: 'Queues' }), ' / ', name),
    h('div', { class: 'bar' }, h('h1', { text: name }), paused, oldest, h('span', { class: 'grow' }), pause.element),
    tiles, config, missing,
    h('nav', { class: 'tabs' }, link('jobs', 'Newest jobs'), link('dead', 'Dead letters', deadCount)),
    list.element);
  return {
    title: name,
    element,
    async refresh(signal) {
      const [{ status, body: queue }] = await Promise.all([
        call('GET', queuePath(name), { signal, accept: [404] }),
        list.refresh(signal),
      ]);
      const there = status === 200;
      tell(missing, there ? '' : 'There is no such queue now: it exists from its first job.');
      pause.element.hidden = !there;
      tiles.hidden = !there;
      if (!there) {
        paused.hidden = true;
        tell(oldest, '');
        say(deadCount, '');
        tell(config, '');
        list.forget();
        return;
      }
      pause.update(queue);
      paused.hidden = !queue.paused;
      totals(tiles, [queue]);
      tell(oldest, queue.oldest_available_age_ms === null ? ''
        : `oldest waiting for ${span(queue.oldest_available_age_ms)}`);
      say(deadCount, queue.depth.dead ? ` (${count(queue.depth.dead)})` : '');
      tell(config, settings(queue.config).join(' · '));
    },
  };
}

/** A configuration as words: `retention.dead 30 d`. */
function settings(config, prefix = '') {
  return Object.entries(config ?? {}).filter(([, value]) => value !== null).flatMap(([key, value]) => {
    const name = prefix + key;
    if (typeof value === 'object') return settings(value, `${name}.`);
    return key.endsWith('_ms') ? `${name.slice(0, -3)} ${exactly(value)}` : `${name} ${count(value)}`;
  });
}

function jobList(page, queue, tab, filters) {
  const rows = h('tbody');
  const columns = tab === 'dead'
    ? ['job', 'kind', 'reason', 'last error', 'attempts', 'died', '']
    : ['job', 'state', 'kind', 'attempts', 'priority', 'made', 'last error'];
  const table = h('table', { class: 'jobs' },
    h('thead', {}, h('tr', {}, ...columns.map((text) => h('th', { text })))), rows);
  const note = h('p', { class: 'note' });
  const before = [];
  let cursor = null;
  let next = null;
  let bytes = 0;
  let asked = true;
  const turn = (to) => {
    cursor = to;
    asked = true;
    page.reload();
  };
  const newer = h('button', { type: 'button', text: '← Newer', onclick: () => turn(before.pop() ?? null) });
  const older = h('button', { type: 'button', text: 'Older →', onclick: () => {
    before.push(cursor);
    turn(next);
  } });
  const again = h('button', { type: 'button', class: 'quiet', text: 'Read again', onclick: () => turn(cursor) });
  const head = tab === 'dead' ? deadBar(page, queue) : filterBar(page, queue, filters);
  const element = h('div', {}, head, h('div', { class: 'panel' }, table), note,
    h('div', { class: 'bar' }, newer, older, again));

  function show(items) {
    sync(rows, items, (job) => job.id, () => (tab === 'dead' ? deadRow(page, queue) : jobRow()));
    table.parentElement.hidden = items.length === 0;
    newer.hidden = cursor === null;
    older.hidden = next === null;
    again.hidden = cursor === null && bytes <= TOO_LONG;
    const filtered = Object.values(filters).some(Boolean);
    const none = tab === 'dead' ? 'No dead letters.' : filtered ? 'No job fits.' : 'No jobs.';
    const long = bytes > TOO_LONG ? 'These jobs are large: the list is read again only when you ask.' : '';
    tell(note, items.length === 0 ? `${none}${next ? ' There may be some further on.' : ''}` : long);
  }
  return {
    element,
    /** The queue has gone, and all of this with it, also what stands still. */
    forget() {
      before.length = 0;
      cursor = null;
      next = null;
      bytes = 0;
      asked = true;
      show([]);
    },
    async refresh(signal) {
      // Later pages stand still while somebody reads them.
      if (!asked && (cursor !== null || bytes > TOO_LONG)) return;
      const query = new URLSearchParams({ limit: PAGE });
      if (cursor !== null) query.set('cursor', cursor);
      if (tab === 'jobs') query.set('queue', queue);
      if (tab === 'jobs') for (const [key, value] of Object.entries(filters)) if (value) query.set(key, value);
      const path = tab === 'dead' ? `${queuePath(queue)}/dead` : 'v1/jobs';
      const { body: list, bytes: length } = await call('GET', `${path}?${query}`, { signal });
      asked = false;
      bytes = length;
      next = list.next_cursor;
      show(list.items);
    },
  };
}

function filterBar(page, queue, filters) {
  const state = h('select', { 'aria-label': 'State' }, h('option', { value: '', text: 'every state' }),
    ...ALL_STATES.map((value) => h('option', { value, text: value, selected: value === filters.state })));
  const field = (key) => {
    const input = h('input', { type: 'search', placeholder: key, 'aria-label': key });
    input.value = filters[key];
    return input;
  };
  const kind = field('kind');
  const tag = field('tag');
  const apply = () => {
    const chosen = Object.entries({ state: state.value, kind: kind.value.trim(), tag: tag.value.trim() });
    const query = new URLSearchParams(chosen.filter(([, value]) => value)).toString();
    page.go(queueLink(queue, query && `?${query}`));
  };
  state.addEventListener('change', apply);
  return h('form', { class: 'bar filters', onsubmit: (event) => {
    event.preventDefault();
    apply();
  } }, state, kind, tag, h('button', { class: 'quiet', text: 'Filter' }));
}

function deadBar(page, queue) {
  const button = h('button', { type: 'button', text: 'Requeue …', onclick: () => requeueDialog(page, queue) });
  return h('div', { class: 'bar' }, h('span', { class: 'note', text: 'Jobs that were given up, newest first.' }),
    h('span', { class: 'grow' }), button);
}

const short = (id) => `…${id.slice(-12)}`;

function jobRow() {
  const link = h('a', { class: 'mono' });
  const state = badge('available');
  const kind = h('td', { class: 'kind', 'data-label': 'kind' });
  const attempts = h('td', { 'data-label': 'attempts' });
  const priority = h('td', { 'data-label': 'priority' });
  const made = h('td', { 'data-label': 'made' });
  const error = h('td', { class: 'error', 'data-label': 'last error' });
  return {
    element: h('tr', {}, h('td', { class: 'name' }, link), h('td', { 'data-label': 'state' }, state.element),
      kind, attempts, priority, made, error),
    update(job) {
      link.href = jobLink(job.id);
      link.title = job.id;
      say(link, short(job.id));
      state.update(job.state);
      say(kind, job.kind);
      kind.title = job.kind;
      say(attempts, `${job.attempt} of ${job.max_attempts}`);
      say(priority, job.priority);
      when(made, job.created_at);
      say(error, failure(job.errors.at(-1)));
      error.hidden = job.errors.length === 0 && matchMedia('(max-width: 760px)').matches;
    },
  };
}

function deadRow(page, queue) {
  let id = '';
  const link = h('a', { class: 'mono' });
  const kind = h('td', { class: 'kind', 'data-label': 'kind' });
  const reason = h('td', { 'data-label': 'reason' });
  const error = h('td', { class: 'error', 'data-label': 'last error' });
  const attempts = h('td', { 'data-label': 'attempts' });
  const died = h('td', { 'data-label': 'died' });
  const button = h('button', { type: 'button', class: 'small', text: 'Requeue', onclick: () => page.act(button, async () => {
    const { changed } = await post(`${queuePath(queue)}/dead/requeue`, { ids: [id] });
    return changed ? 'The job is available again.' : 'The job was not dead any more.';
  }) });
  return {
    element: h('tr', {}, h('td', { class: 'name' }, link), kind, reason, error, attempts, died,
      h('td', { class: 'does' }, button)),
    update(job) {
      id = job.id;
      link.href = jobLink(job.id);
      link.title = job.id;
      say(link, short(job.id));
      say(kind, job.kind);
      kind.title = job.kind;
      say(reason, job.reason);
      say(error, failure(job.error));
      say(attempts, `${job.attempt} of ${job.max_attempts}`);
      when(died, job.finished_at);
    },
  };
}

function when(element, instant) {
  say(element, ago(instant));
  element.title = instant ?? '';
}

const failure = (error) => (error ? [error.type, error.message].filter(Boolean).join(': ') : '');

/** Chooses dead letters, counts them by a dry run, and requeues them if that is what was meant. */
function requeueDialog(page, queue) {
  const dialog = page.dialog();
  const path = `${queuePath(queue)}/dead/requeue`;
  const by = h('select', { 'aria-label': 'Which' },
    h('option', { value: '', text: 'all dead letters of this queue' }),
    h('option', { value: 'kind', text: 'those of the kind' }),
    h('option', { value: 'error_type', text: 'those whose last error has the type' }));
  const value = h('input', { 'aria-label': 'Kind or type', hidden: true });
  const found = h('p', { class: 'note', role: 'status' });
  const go = h('button', { type: 'button', class: 'primary', text: 'Requeue', disabled: true });
  let generation = 0;
  const select = () => (by.value ? { [by.value]: value.value } : {});
  async function look() {
    const mine = ++generation;
    go.disabled = true;
    say(go, 'Requeue');
    value.hidden = !by.value;
    if (by.value && !value.value) return say(found, 'Say which.');
    say(found, 'Counting …');
    try {
      const { matched } = await post(path, { ...select(), dry_run: true });
      if (mine !== generation) return undefined;
      say(found, matched === 0 ? 'None fits.' : `${count(matched)} would run again, their attempts counted anew.`);
      say(go, matched ? `Requeue ${count(matched)}` : 'Requeue');
      go.disabled = matched === 0;
    } catch (error) {
      if (mine === generation) say(found, error.message);
    }
    return undefined;
  }
  let later;
  by.addEventListener('change', look);
  value.addEventListener('input', () => {
    generation += 1;
    go.disabled = true;
    clearTimeout(later);
    later = setTimeout(look, 300);
  });
  go.addEventListener('click', () => page.act(go, async () => {
    const { changed } = await post(path, select());
    dialog.close();
    return `${count(changed)} requeued.`;
  }));
  // Enter does nothing: what changes many jobs is pressed on purpose.
  dialog.replaceChildren(h('form', { onsubmit: (event) => event.preventDefault() }, h('h2', { text: `Requeue dead letters of ${queue}` }), by, value, found,
    h('div', { class: 'actions' }, h('span', { class: 'grow' }),
      h('button', { type: 'button', class: 'quiet', text: 'Close', onclick: () => dialog.close() }), go)));
  dialog.showModal();
  look();
}

// ---- one job

const CANCELLABLE = ['scheduled', 'blocked', 'available', 'running', 'retryable'];
const RETRYABLE = ['dead', 'cancelled', 'completed', 'scheduled', 'retryable'];
const FACTS = [
  ['kind', (job) => job.kind],
  ['attempts', (job) => `${job.attempt} of ${job.max_attempts}`],
  ['crashes', (job) => `${job.crashes} of ${job.max_crashes}`],
  ['priority', (job) => job.priority],
  ['made', (job) => job.created_at],
  ['runs at', (job) => (job.finished_at ? null : job.run_at)],
  ['ended', (job) => job.finished_at],
  ['reason', (job) => job.reason],
  ['expires', (job) => job.expires_at],
  ['worker', (job) => job.worker],
  ['lease until', (job) => job.lease_expires_at],
  ['fencing token', (job) => job.token],
  ['time limit', (job) => (job.timeout_ms ? exactly(job.timeout_ms) : null)],
  ['unique key', (job) => job.unique?.key],
  ['concurrency key', (job) => job.concurrency_key],
  ['fairness key', (job) => job.fairness_key],
  ['waits for', (job) => (job.waiting_for === undefined ? null
    : `${count(job.waiting_for)} of ${count(job.after.length)} jobs`)],
  ['after', (job) => (job.after?.length ? job.after : null)],
  ['after a failure', (job) => job.after_failure],
  ['tags', (job) => job.tags.join(', ')],
  ['trace', (job) => job.traceparent],
];
/** A job may wait for thousands. */
const SHOWN = 20;
const INSTANTS = ['made', 'runs at', 'ended', 'expires', 'lease until'];

/** One job, with everything that is known of it. */
export function jobView(page, id) {
  const state = badge('…');
  const crumb = h('a', { href: '#/', text: '…' });
  const wanted = h('span', { class: 'badge is-paused', text: 'cancel requested', hidden: true });
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  let job = null;
  const retry = h('button', { type: 'button', text: 'Retry', hidden: true, onclick: async () => {
    const again = job.state !== 'completed'
      || await page.confirm('Run a completed job again?', 'Its result is replaced by that of the new run.', 'Run again');
    if (again) page.act(retry, async () => `The job is ${(await post(`${path}/retry`)).state}.`);
  } });
  const cancel = h('button', { type: 'button', class: 'danger', text: 'Cancel', hidden: true, onclick: async () => {
    const detail = job.state === 'running' ? 'Its worker is told when it next extends its lease.'
      : 'It will not run.';
    if (!await page.confirm('Cancel this job?', detail, 'Cancel the job')) return;
    page.act(cancel, async () => {
      const now = await post(`${path}/cancel`);
      return now.cancel_requested ? 'Its worker will be told.' : `The job is ${now.state}.`;
    });
  } });
  const facts = h('dl', { class: 'facts' });
  const bodies = h('div', {});
  const failures = h('div', {});
  const missing = h('p', { class: 'note' });
  const there = h('div', { hidden: true }, h('div', { class: 'panel padded' }, facts), failures, bodies);
  const element = h('section', {},
    h('nav', { class: 'crumbs' }, h('a', { href: '#/', text: 'Queues' }), ' / ', crumb, ' / job'),
    h('div', { class: 'bar' }, h('h1', { class: 'mono id', text: id }), state.element, wanted,
      h('span', { class: 'grow' }), retry, cancel),
    missing, there);
  return {
    title: `job ${short(id)}`,
    element,
    async refresh(signal) {
      const { status, body } = await call('GET', path, { signal, accept: [404] });
      const is = status === 200;
      tell(missing, is ? '' : 'There is no such job: it was deleted, or ended longer ago than jobs are kept.');
      there.hidden = !is;
      retry.hidden = !is || !RETRYABLE.includes(body.state);
      cancel.hidden = !is || !CANCELLABLE.includes(body.state) || body.cancel_requested;
      state.element.hidden = !is;
      wanted.hidden = !is || !body.cancel_requested || body.state !== 'running';
      if (!is) return;
      job = body;
      state.update(job.state);
      crumb.href = queueLink(job.queue);
      say(crumb, job.queue);
      showFacts(facts, job);
      showFailures(failures, job.errors);
      showBodies(bodies, job);
    },
  };
}

function showFacts(facts, job) {
  const known = FACTS.map(([name, read]) => [name, read(job)])
    .filter(([, value]) => value !== null && value !== undefined && value !== '');
  sync(facts, known, ([name]) => name, ([name]) => {
    const value = h('dd', {});
    return {
      element: h('div', {}, h('dt', { text: name }), value),
      update([, now]) {
        if (INSTANTS.includes(name)) {
          say(value, `${ago(now)} · ${now}`);
        } else if (Array.isArray(now)) {
          sync(value, now.slice(0, SHOWN), (job) => job, jobReference);
          value.title = now.length > SHOWN ? `the first ${SHOWN} of ${count(now.length)}` : '';
        } else say(value, now);
      },
    };
  });
}

function jobReference(job) {
  const element = h('a', { class: 'mono', href: jobLink(job), title: job, text: short(job) });
  return { element, update() {} };
}

function showFailures(element, errors) {
  const listed = errors.length ? [{ errors }] : [];
  sync(element, listed, () => 'errors', () => {
    const list = h('ol', { class: 'failures' });
    return {
      element: h('div', { class: 'panel padded' }, h('h2', { text: 'What went wrong' }), list),
      update: ({ errors: now }) => sync(list, [...now].reverse(), (error) => `${error.attempt} ${error.at}`, failureItem),
    };
  });
}

function failureItem(error) {
  const at = h('span', { class: 'note', title: error.at });
  const element = h('li', {},
    h('div', { class: 'bar' }, h('strong', { text: `attempt ${error.attempt}` }),
      error.type ? h('span', { class: 'badge is-dead', text: error.type }) : null, at),
    h('pre', { text: error.message }),
    error.backtrace ? h('details', {}, h('summary', { text: 'backtrace' }), h('pre', { text: error.backtrace })) : null);
  return { element, update: () => say(at, ago(error.at)) };
}

function showBodies(element, job) {
  const bodies = [['payload', job.payload], ['result', job.result], ['progress', job.progress], ['meta', job.meta]]
    .map(([name, value]) => ({ name, text: pretty(value) }))
    .filter(({ name, text }) => text && (name === 'payload' || (text !== 'null' && text !== '{}')));
  sync(element, bodies, ({ name }) => name, ({ name }) => {
    const text = h('pre', {});
    return {
      element: h('div', { class: 'panel padded' }, h('h2', { text: name }), text),
      update: ({ text: now }) => say(text, now),
    };
  });
}
