// Uploads a file in parts, and goes on where a cut connection ended: node upload.cjs FILE (tus-js-client 4.3).

const fs = require("node:fs");
const path = require("node:path");
const tus = require("tus-js-client");

const file = process.argv[2];
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint: `${process.env.DOTMAC_URL}/api/v1/files/tus`,
  headers: { Authorization: `Bearer ${process.env.DOTMAC_TOKEN}` },
  chunkSize: 4 * 1024 * 1024,
  uploadSize: fs.statSync(file).size,
  metadata: { filename: path.basename(file), folder: "/uploads" },
  retryDelays: Array(20).fill(500),
  onSuccess() {
    // The file has the id of the upload.
    console.log(upload.url.split("/").pop());
  },
  onError(error) {
    console.error(error);
    process.exitCode = 1;
  },
});
upload.start();
