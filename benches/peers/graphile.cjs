// graphile-worker runs no-op jobs: graphile.cjs URL JOBS SLOTS [tuned]. Prints the seconds from the first to the last.
//
// `tuned` is the local queue and the batched completion of its own performance test; without it each job is fetched and
// completed by a statement of its own, as it is by default.
const { Logger, makeWorkerUtils, run } = require('graphile-worker');

const [connectionString, jobs, slots, tuned] = process.argv.slice(2);
const ENQUEUE = `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
  SELECT json_populate_record(NULL::graphile_worker.job_spec,
    json_build_object('identifier', 'noop', 'payload', json_build_object('number', n)))
  FROM generate_series(1, $1::int) AS n))`;

async function main() {
  const logger = new Logger(() => (level, text) => { if (level === 'error') console.error(text); });
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.withPgClient((client) => client.query(ENQUEUE, [jobs]));
  let first;
  let done = 0;
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  const noop = async () => {
    first ??= performance.now();
    if (++done === Number(jobs)) finish();
  };
  const worker = { connectionString, concurrentJobs: Number(slots), maxPoolSize: Number(slots) + 2 };
  if (tuned) {
    Object.assign(worker, {
      maxPoolSize: Number(slots) + 2,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    });
  }
  const runner = await run({ preset: { worker }, logger, noHandleSignals: true, taskList: { noop } });
  await finished;
  // A handler has ended before its job is completed.
  const left = 'SELECT count(*)::int AS jobs FROM graphile_worker._private_jobs';
  while ((await utils.withPgClient((client) => client.query(left))).rows[0].jobs > 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log((performance.now() - first) / 1000);
  await runner.stop();
  await utils.release();
}

main().catch((error) => { console.error(error); process.exit(1); });
