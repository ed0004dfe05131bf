const { run, makeWorkerUtils, Logger } = require("graphile-worker");
const { mark, spaced, reply } = require("./lib.cjs");

const [command, ...args] = process.argv.slice(2);
const connectionString = process.env.PEERS_URL;
const logger = new Logger(() => () => {});
const CHUNK = 1000;

const work = () =>
  run({
    connectionString,
    logger,
    concurrency: Number(args[0]),
    preset: {
      worker: {
        localQueue: { size: Number(process.env.LQ) },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: { noop: async (payload) => mark(payload.seq) },
  });

const bulk = async (utils, n, identifier) => {
  for (let first = 0; first < n; first += CHUNK) {
    const length = Math.min(CHUNK, n - first);
    await utils.addJobs(
      Array.from({ length }, (_, i) => ({ identifier, payload: { seq: first + i } })),
    );
  }
};

const main = async () => {
  if (command === "worker") return work();
  const utils = await makeWorkerUtils({ connectionString, logger });
  if (command === "migrate") await utils.migrate();
  if (command === "one") {
    const add = (seq) => utils.addJob(args[2], { seq });
    reply(await spaced(add, Number(args[0]), Number(args[1])));
  }
  if (command === "bulk") await bulk(utils, Number(args[0]), args[1]);
  await utils.release();
};

main();
