// pg-boss. Its `work` polls every half second at best, so where speed is measured, workers fetch and complete by
// themselves, many at once, which is documented too. Its latency is that of `work`.
import { main, need } from "./cells.mjs";

const PgBoss = need("pg-boss");
const QUEUE = "bench";
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

await main(async (cell) => {
  const boss = new PgBoss({ connectionString: cell.url, max: cell.pool });
  boss.on("error", (error) => console.error(error.message));
  await boss.start();
  await boss.createQueue(QUEUE);
  let over = false;
  const fetchers = [];
  const fetcher = async (handle) => {
    while (!over) {
      const jobs = await boss.fetch(QUEUE, { batchSize: cell.fetch });
      if (jobs.length === 0) {
        await sleep(2);
        continue;
      }
      jobs.forEach((job) => handle(job.data));
      await boss.complete(QUEUE, jobs.map((job) => job.id));
    }
  };
  return {
    enqueue: (payloads) =>
      payloads.length === 1
        ? boss.send(QUEUE, payloads[0])
        : boss.insert(payloads.map((data) => ({ name: QUEUE, data }))),
    work: async (handle) => {
      if (cell.kind === "pickup") {
        await boss.work(QUEUE, { batchSize: 100, pollingIntervalSeconds: 0.5 }, async (jobs) =>
          jobs.forEach((job) => handle(job.data)));
      } else {
        for (let i = 0; i < cell.fetchers; i++) fetchers.push(fetcher(handle));
      }
    },
    close: async () => {
      over = true;
      await Promise.all(fetchers);
      await boss.stop({ graceful: true, timeout: 5000 });
    },
  };
});
