// pg-boss runs no-op jobs: pgboss.cjs URL JOBS SLOTS [tuned]. Prints the seconds from the first to the last.
//
// Each of its workers asks for jobs every half second, which is the shortest pause it allows. By default for one job;
// `tuned` asks for a thousand, which are completed by one statement.
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
  const options = { pollingIntervalSeconds: 0.5, batchSize: tuned ? 1000 : 1 };
  for (let slot = 0; slot < Number(slots); slot += 1) {
    await boss.work('noop', options, async (batch) => {
      first ??= performance.now();
      done += batch.length;
      if (done === Number(jobs)) finish();
    });
  }
  await finished;
  // A handler has ended before its jobs are completed.
  while ((await boss.getQueueSize('noop', { before: 'completed' })) > 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log((performance.now() - first) / 1000);
  await boss.stop({ graceful: false });
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
