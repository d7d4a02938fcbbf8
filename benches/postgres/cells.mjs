// The cells of scripts/bench-postgres for queues of Node: the same as `mainstay bench jobs` has.
//
// `open(cell)` answers { enqueue(payloads), work(handle), close() }. A cell: `enqueue` has producers alone, `work` has
// producers that wait while `onTheirWay` jobs are enqueued and not handled, and workers; `pickup` has a steady trickle.
import { createRequire } from "node:module";
import { join } from "node:path";

// Packages are where the script installed them, not beside this file.
export const need = createRequire(join(process.env.BENCH_PACKAGES, "x.js"));
const { Client } = need("pg");

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TRICKLE = 200;
const TRICKLERS = 10;

function text(bytes) {
  let out = "";
  while (out.length < bytes) out += LETTERS[Math.floor(Math.random() * 64)];
  return out;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const now = () => performance.now();

function quantiles(values) {
  const sorted = Float64Array.from(values).sort();
  const at = (share) => (sorted.length ? sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] : 0);
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

export async function main(open) {
  const cell = JSON.parse(process.argv[2]);
  const ledger = new Client({ connectionString: cell.url });
  await ledger.connect();
  const written = async () =>
    Number((await ledger.query("select pg_current_wal_insert_lsn() - '0/0' as n")).rows[0].n);

  let handled = 0, sent = 0, measuring = false, over = false;
  const enqueueMs = [], pickupMs = [], freed = [];
  const queue = await open(cell);
  const handle = (job) => {
    handled += 1;
    if (measuring && cell.kind === "pickup") pickupMs.push(now() - job.at);
    while (freed.length && sent - handled + cell.batch <= cell.onTheirWay) freed.shift()();
  };
  if (cell.kind !== "enqueue") await queue.work(handle);

  const enqueue = async (by) => {
    const at = now();
    const payloads = Array.from({ length: cell.batch }, () => ({ by, at, text: text(cell.payloadBytes - 40) }));
    sent += cell.batch;
    await queue.enqueue(payloads);
    if (measuring) enqueueMs.push(now() - at);
  };
  const producer = async (by) => {
    while (!over) {
      while (cell.kind === "work" && sent - handled + cell.batch > cell.onTheirWay)
        await new Promise((room) => freed.push(room));
      if (!over) await enqueue(by);
    }
  };
  const trickler = async (by) => {
    let next = now() + (by * 1000) / TRICKLE;
    while (!over) {
      await sleep(Math.max(0, next - now()));
      next += (TRICKLERS * 1000) / TRICKLE;
      await enqueue(by);
    }
  };
  const count = cell.kind === "pickup" ? TRICKLERS : cell.producers;
  const running = Array.from({ length: count }, (_, by) => (cell.kind === "pickup" ? trickler(by) : producer(by)));

  await sleep(cell.warmUp * 1000);
  const before = { at: now(), written: await written(), handled, sent };
  measuring = true;
  await sleep(cell.seconds * 1000);
  measuring = false;
  const after = { at: now(), written: await written(), handled, sent };
  over = true;
  while (freed.length) freed.shift()();
  await Promise.all(running);
  const until = now() + 60_000;
  while (cell.kind !== "enqueue" && handled < sent && now() < until) await sleep(20);
  await queue.close();
  await ledger.end();

  const seconds = (after.at - before.at) / 1000;
  const jobs = cell.kind === "enqueue" ? after.sent - before.sent : after.handled - before.handled;
  console.log(JSON.stringify({
    jobs, seconds, rate: jobs / seconds, wal: (after.written - before.written) / Math.max(1, jobs),
    enqueue: quantiles(enqueueMs), pickup: quantiles(pickupMs), sent, handled,
  }));
}
