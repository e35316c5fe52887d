// npm install standardwebhooks
const { createServer } = require("node:http");
const { Webhook } = require("standardwebhooks");

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // in earnest a table with a unique key, kept for a week

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  // The body as it came: parsed and written again it would be another.
  const body = Buffer.concat(pieces).toString();
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch (error) {
    response.writeHead(401).end(error.message);
    return;
  }
  if (!seen.has(request.headers["webhook-id"])) {
    seen.add(request.headers["webhook-id"]);
    console.log(event.type, JSON.stringify(event.data));
  }
  response.writeHead(204).end();
});
server.listen(Number(process.argv[2]), "127.0.0.1");
