// pg-boss runs no-op jobs: pgboss.cjs URL JOBS SLOTS [tuned]. Prints the seconds from the first to the last.
//
// Its own workers ask for jobs every half second, which is the shortest pause they allow. So by default each slot fetches and
// completes one job after another by itself, without a pause; `tuned` is those workers with a thousand jobs each time, which are
// completed by one statement.
const PgBoss = require('pg-boss');

const [connectionString, jobs, slots, tuned] = process.argv.slice(2);

async function main() {
  const boss = new PgBoss({ connectionString, max: Number(slots) + 2, supervise: false, schedule: false });
  boss.on('error', (error) => { throw error; });
  await boss.start();
  await boss.createQueue('noop');
  for (let at = 0; at < Number(jobs); at += 1000) {
    const size = Math.min(1000, Number(jobs) - at);
    await boss.insert(Array.from({ length: size }, (_, n) => ({ name: 'noop', data: { number: at + n } })));
  }
  let first;
  let done = 0;
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  const handle = (batch) => {
    first ??= performance.now();
    done += batch.length;
    if (done === Number(jobs)) finish();
  };
  const slot = async () => {
    while (done < Number(jobs)) {
      const batch = await boss.fetch('noop');
      if (batch.length > 0) {
        handle(batch);
        await boss.complete('noop', batch.map(({ id }) => id));
      }
    }
  };
  const all = Array.from({ length: Number(slots) });
  if (tuned) {
    const options = { pollingIntervalSeconds: 0.5, batchSize: 1000 };
    await Promise.all(all.map(() => boss.work('noop', options, async (batch) => handle(batch))));
    await finished;
  } else {
    await Promise.all(all.map(slot));
  }
  // A handler has ended before its jobs are completed.
  while ((await boss.getQueueSize('noop', { before: 'completed' })) > 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log((performance.now() - first) / 1000);
  await boss.stop({ graceful: false });
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
