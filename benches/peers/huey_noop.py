"""Huey runs no-op jobs on SQLite: huey_noop.py FILE JOBS SLOTS. Prints the seconds from the first to the last."""

import sys
import threading
import time

import huey

path, jobs, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Each commit reaches the disk, as ours does.
queue = huey.SqliteHuey(filename=path, fsync=True)
began, done = [], threading.Semaphore(0)


@queue.task()
def noop(number):
    if not began:
        began.append(time.perf_counter())
    done.release()


for n in range(jobs):
    noop(n)
consumer = queue.create_consumer(workers=slots, worker_type="thread", initial_delay=0.01, max_delay=0.1)
consumer.start()
for _ in range(jobs):
    done.acquire()
# A job is off the queue before it runs; nothing is written after it.
print(time.perf_counter() - began[0])
consumer.stop()
