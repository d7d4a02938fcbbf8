"""procrastinate: its asynchronous app. Enqueues in batches by `batch_defer_async`; its worker fetches one job at a time.
Finished jobs are deleted, as its guide to production advises. The cells are those of cells.mjs."""
import asyncio, json, logging, random, string, sys, time

import procrastinate, psycopg

TRICKLE, TRICKLERS = 200, 10
LETTERS = string.ascii_letters + string.digits + "-_"
logging.basicConfig(level=logging.ERROR)


def quantiles(values):
    values = sorted(values)
    at = lambda share: values[max(0, -(-int(len(values) * share * 1000) // 1000) - 1)] if values else 0
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1)}


async def main():
    cell = json.loads(sys.argv[1])
    ledger = await psycopg.AsyncConnection.connect(cell["url"], autocommit=True)

    async def written():
        return int((await (await ledger.execute("select pg_current_wal_insert_lsn() - '0/0'")).fetchone())[0])

    connector = procrastinate.PsycopgConnector(conninfo=cell["url"], min_size=cell["pool"], max_size=cell["pool"])
    app = procrastinate.App(connector=connector)
    state = {"handled": 0, "sent": 0, "measuring": False, "over": False}
    enqueue_ms, pickup_ms = [], []
    room = asyncio.Condition()
    batch, kind = cell["batch"], cell["kind"]

    @app.task(queue="bench")
    async def piece(by, at, text):
        state["handled"] += 1
        if state["measuring"] and kind == "pickup":
            pickup_ms.append(time.perf_counter() * 1000 - at)
        async with room:
            room.notify_all()

    has_room = lambda: state["over"] or state["sent"] - state["handled"] + batch <= cell["onTheirWay"]

    async def enqueue(by):
        at = time.perf_counter() * 1000
        jobs = [
            {"by": by, "at": at, "text": "".join(random.choices(LETTERS, k=cell["payloadBytes"] - 40))}
            for _ in range(batch)
        ]
        state["sent"] += batch
        if batch == 1:
            await piece.defer_async(**jobs[0])
        else:
            await piece.batch_defer_async(*jobs)
        if state["measuring"]:
            enqueue_ms.append(time.perf_counter() * 1000 - at)

    async def producer(by):
        while not state["over"]:
            if kind == "work":
                async with room:
                    await room.wait_for(has_room)
            if not state["over"]:
                await enqueue(by)

    async def trickler(by):
        due = time.perf_counter() + by / TRICKLE
        while not state["over"]:
            await asyncio.sleep(max(0, due - time.perf_counter()))
            due += TRICKLERS / TRICKLE
            await enqueue(by)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = None
        if kind != "enqueue":
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=["bench"], concurrency=cell["workers"], delete_jobs="successful",
                    install_signal_handlers=False,
                )
            )
        makes = trickler if kind == "pickup" else producer
        count = TRICKLERS if kind == "pickup" else cell["producers"]
        running = [asyncio.create_task(makes(by)) for by in range(count)]
        await asyncio.sleep(cell["warmUp"])
        before = (time.perf_counter(), await written(), state["handled"], state["sent"])
        state["measuring"] = True
        await asyncio.sleep(cell["seconds"])
        state["measuring"] = False
        after = (time.perf_counter(), await written(), state["handled"], state["sent"])
        state["over"] = True
        async with room:
            room.notify_all()
        await asyncio.gather(*running)
        until = time.perf_counter() + 60
        while worker and state["handled"] < state["sent"] and time.perf_counter() < until:
            await asyncio.sleep(0.02)
        if worker:
            # The last ones may still be being settled.
            await asyncio.sleep(0.2)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    await ledger.close()
    seconds = after[0] - before[0]
    at = 3 if kind == "enqueue" else 2
    jobs = after[at] - before[at]
    print(
        json.dumps(
            {
                "jobs": jobs, "seconds": seconds, "rate": jobs / seconds,
                "wal": (after[1] - before[1]) / max(1, jobs), "enqueue": quantiles(enqueue_ms),
                "pickup": quantiles(pickup_ms), "sent": state["sent"], "handled": state["handled"],
            }
        )
    )


asyncio.run(main())
