"""Procrastinate runs no-op jobs: procrastinate_noop.py URL JOBS SLOTS. Prints the seconds from the first to the last."""

import asyncio
import sys
import time

import procrastinate

url, jobs, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=slots + 2))
began = []


@app.task(name="noop")
async def noop(number):
    if not began:
        began.append(time.perf_counter())


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for at in range(0, jobs, 1000):
            await noop.batch_defer_async(*({"number": n} for n in range(at, min(at + 1000, jobs))))
        # Ends when no job is left.
        await app.run_worker_async(concurrency=slots, wait=False, install_signal_handlers=False)
        print(time.perf_counter() - began[0])


asyncio.run(main())
