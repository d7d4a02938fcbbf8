// graphile-worker: many jobs by `addJobs`; a local queue and completions in batches, as its guide to performance says.
import { main, need } from "./cells.mjs";

const { makeWorkerUtils, run, Logger } = need("graphile-worker");
const { Pool } = need("pg");
const logger = new Logger(() => (level, message) => { if (level === "error") console.error(message); });

await main(async (cell) => {
  const pool = new Pool({ connectionString: cell.url, max: cell.pool });
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  let runner;
  return {
    enqueue: (payloads) =>
      payloads.length === 1
        ? utils.addJob("bench", payloads[0])
        : utils.addJobs(payloads.map((payload) => ({ identifier: "bench", payload }))),
    work: async (handle) => {
      const batches = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
      runner = await run({
        pgPool: new Pool({ connectionString: cell.url, max: cell.pool }), logger, noHandleSignals: true,
        taskList: { bench: async (payload) => handle(payload) },
        preset: { worker: { concurrentJobs: cell.workers, ...batches } },
      });
    },
    close: async () => {
      await runner?.stop();
      await utils.release();
      await pool.end();
    },
  };
});
