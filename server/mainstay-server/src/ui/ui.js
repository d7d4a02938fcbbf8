// The page around the views: which one, how fresh, and what the server says of itself.

import { Failure, call, get, token } from './api.js';
import { h, say, span, tell } from './dom.js';
import { jobView, overview, queueView } from './views.js';

const EVERY = 2000;
const AT_MOST = 15000;
const STORE_EVERY = 30000;

const at = (id) => document.getElementById(id);
let view = null;
let running = null;
let timer = null;
let failures = 0;
let seen = 0;
let storeSeen = 0;

/** What views may do to the page. */
const page = {
  reload: () => tick(),
  go: (hash) => { location.hash = hash; },
  toast(text, bad = false) {
    const toast = h('div', { class: bad ? 'toast bad' : 'toast', text });
    at('toasts').append(toast);
    setTimeout(() => toast.remove(), bad ? 8000 : 4000);
  },
  /** Does something, says how it went, and looks again. */
  async act(button, doing) {
    button.disabled = true;
    try {
      const said = await doing();
      if (said) page.toast(said);
    } catch (error) {
      page.toast(error.message, true);
      if (error.status === 401) askForToken();
    } finally {
      button.disabled = false;
      tick();
    }
  },
  /** Asks before something that cannot be undone. */
  confirm(question, detail, yes) {
    const dialog = at('ask');
    dialog.replaceChildren(h('form', { method: 'dialog' },
      h('h2', { text: question }),
      h('p', { text: detail }),
      h('div', { class: 'actions' },
        h('span', { class: 'grow' }),
        h('button', { value: 'no', class: 'quiet', text: 'No' }),
        h('button', { value: 'yes', class: 'primary', text: yes }))));
    return new Promise((answer) => {
      dialog.returnValue = 'no';
      dialog.addEventListener('close', () => answer(dialog.returnValue === 'yes'), { once: true });
      dialog.showModal();
    });
  },
  dialog: () => at('ask'),
};

function route() {
  const [path, query] = location.hash.replace(/^#/, '').split('?');
  let parts;
  try {
    parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = [];
  }
  const params = new URLSearchParams(query ?? '');
  if (parts[0] === 'queues' && parts[1]) view = queueView(page, parts[1], params);
  else if (parts[0] === 'jobs' && parts[1]) view = jobView(page, parts[1]);
  else view = overview(page);
  document.title = view.title ? `${view.title} · mainstay` : 'mainstay';
  at('main').replaceChildren(view.element);
  seen = 0;
  tick();
}

async function tick() {
  clearTimeout(timer);
  running?.abort();
  if (document.hidden) return;
  const mine = new AbortController();
  running = mine;
  try {
    await Promise.all([server(mine.signal), view.refresh(mine.signal)]);
    if (mine.signal.aborted) return;
    failures = 0;
    seen = Date.now();
    tell(at('trouble'), '');
  } catch (error) {
    if (mine.signal.aborted) return;
    failures += 1;
    trouble(error);
  }
  fresh();
  timer = setTimeout(tick, Math.min(EVERY * 2 ** Math.min(failures, 3), AT_MOST));
}

function trouble(error) {
  const stale = seen ? ` What you see is ${span(Date.now() - seen)} old.` : '';
  if (error instanceof Failure && error.status === 401) {
    tell(at('trouble'), token.get() ? 'This server does not know the access token: press “Token” to give another.'
      : 'This server wants an access token: press “Token”.');
    if (failures === 1 && !at('token-dialog').open) askForToken();
  } else if (error instanceof Failure) {
    const said = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    tell(at('trouble'), `${said} (${error.code}).${stale}`);
  } else {
    console.error(error);
    tell(at('trouble'), `This page made a mistake: ${error.message}.${stale}`);
  }
}

// What the server says of itself. A probe needs no token, and 503 is an answer.
async function server(signal) {
  const { body: probe } = await call('GET', 'readyz?verbose', { signal, accept: [503] });
  const ready = at('ready');
  ready.hidden = false;
  const words = { draining: 'draining', initializing: 'starting', dependency: 'not ready' };
  say(ready, probe?.status === 'ready' ? 'ready' : words[probe?.reason] ?? 'not ready');
  ready.className = `chip ${probe?.status === 'ready' ? 'good' : 'warn'}`;
  const down = Object.entries(probe?.checks ?? {}).filter(([, check]) => check.status !== 'up');
  const said = down.map(([name, check]) => `${name} is ${check.status}${check.error ? `: ${check.error}` : ''}`);
  if (probe?.reason === 'draining') said.unshift('This server is shutting down: it hands out no more jobs');
  tell(at('state'), said.join(' · '));
  if (Date.now() - storeSeen < STORE_EVERY) return;
  const store = await get('v1/store', { signal });
  storeSeen = Date.now();
  const chip = at('store');
  chip.hidden = false;
  say(chip, `${store.store} · ${store.durable ? 'durable' : 'NOT durable'}`);
  chip.className = `chip ${store.durable ? 'good' : 'bad'}`;
  chip.title = `mainstay ${store.version}`;
  tell(at('volatile'), store.durable ? '' : 'Nothing here is durable: this server keeps its jobs in memory, and they '
    + 'are gone when it stops. Start it with --store sqlite:PATH to keep them.');
}

function fresh() {
  const element = at('fresh');
  const age = Date.now() - seen;
  const stale = failures > 0 || age > 3 * EVERY;
  element.classList.toggle('stale', stale);
  if (document.hidden) say(element, 'paused');
  else if (!seen) say(element, failures ? 'no data' : 'connecting …');
  else say(element, stale ? `${span(age)} old` : 'live');
}

function askForToken() {
  at('token-input').value = token.get();
  if (!at('token-dialog').open) at('token-dialog').showModal();
}

at('token').addEventListener('click', askForToken);
at('token-dialog').addEventListener('close', () => {
  const { returnValue } = at('token-dialog');
  if (returnValue === 'save') token.set(at('token-input').value.trim());
  else if (returnValue === 'forget') token.set('');
  else return;
  at('token-dialog').returnValue = '';
  storeSeen = 0;
  tick();
});
// Enter saves: a form's default is its first button.
at('token-input').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter') return;
  event.preventDefault();
  at('token-dialog').close('save');
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
    running?.abort();
    fresh();
  } else {
    tick();
  }
});
addEventListener('hashchange', route);
setInterval(fresh, 1000);
route();
