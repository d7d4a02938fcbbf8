// Building and updating the page. Text only ever becomes text: nothing here reads markup from data.

/** An element. Properties: `class`, `text`, `on…` for listeners; anything else is an attribute, `true` an empty one. */
export function h(tag, properties = {}, ...children) {
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

/** Sets the text, if it is another one: a selection in it survives. */
export function say(element, text) {
  const wanted = text === undefined || text === null ? '' : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Shows or hides an element and sets its text. */
export function tell(element, text) {
  element.hidden = !text;
  say(element, text);
}

const known = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in order. `make(item)` gives `{ element, update(item) }`; what is
 * there already is updated in place, so that focus and selection stay where they are.
 */
export function sync(parent, items, keyOf, make) {
  const before = known.get(parent) ?? new Map();
  const after = new Map();
  let next = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    const entry = before.get(key) ?? make(item);
    entry.update(item);
    after.set(key, entry);
    if (entry.element === next) next = next.nextSibling;
    else parent.insertBefore(entry.element, next);
  }
  for (const [key, entry] of before) if (!after.has(key)) entry.element.remove();
  known.set(parent, after);
}

const whole = new Intl.NumberFormat('en');
export const count = (number) => (typeof number === 'number' ? whole.format(number) : String(number ?? '–'));

/** A time span in one unit. */
export function span(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const steps = [[1000, 's', 90], [60000, 'min', 90], [3600000, 'h', 48], [86400000, 'd', Infinity]];
  const [unit, name] = steps.find(([size, , most]) => ms / size < most);
  return `${whole.format(Math.floor(ms / unit))} ${name}`;
}

/** A time span that somebody chose, in the largest unit that leaves nothing out. */
export function exactly(ms) {
  const [unit, name] = [[86400000, 'd'], [3600000, 'h'], [60000, 'min'], [1000, 's'], [1, 'ms']]
    .find(([size]) => ms % size === 0 && ms >= size) ?? [1, 'ms'];
  return `${count(ms / unit)} ${name}`;
}

/** An instant, seen from now. */
export function ago(instant) {
  if (!instant) return '–';
  const ms = Date.now() - Date.parse(instant);
  return ms < 0 ? `in ${span(-ms)}` : `${span(ms)} ago`;
}

/** A word in a coloured box. */
export function badge(word) {
  const element = h('span', {});
  const update = (next) => {
    say(element, next);
    element.className = `badge is-${next}`;
  };
  update(word);
  return { element, update };
}

/** A line to be copied. */
export function copyable(text) {
  const button = h('button', { type: 'button', class: 'quiet small', text: 'Copy' });
  const code = h('pre', { text });
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
    } catch {
      // Only secure origins may write to the clipboard: select it instead.
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  return h('div', { class: 'copyable' }, code, button);
}
