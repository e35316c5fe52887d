// @tus/server keeps uploads in a directory: tus_server.cjs PORT DIRECTORY. Runs until it is killed.
const { pathToFileURL } = require('node:url');

const [port, directory] = process.argv.slice(2);

// Both are modules of ECMAScript, which are not looked for in NODE_PATH by themselves.
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

async function main() {
  const { Server } = await load('@tus/server');
  const { FileStore } = await load('@tus/file-store');
  const server = new Server({ path: '/files', datastore: new FileStore({ directory }) });
  server.listen({ host: '127.0.0.1', port: Number(port) });
}

main().catch((error) => { console.error(error); process.exit(1); });
