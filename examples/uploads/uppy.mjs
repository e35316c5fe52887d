// Uploads a file in parts by Uppy, and goes on where a cut connection ended: node uppy.mjs FILE (@uppy/core 6.3, @uppy/tus 6.0).

import fs from "node:fs";
import path from "node:path";
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

const file = process.argv.at(-1);
const uppy = new Uppy().use(Tus, {
  endpoint: `${process.env.DOTMAC_URL}/api/v1/files/tus`,
  headers: { Authorization: `Bearer ${process.env.DOTMAC_TOKEN}` },
  chunkSize: 4 * 1024 * 1024,
  retryDelays: Array(20).fill(500),
  // Further ones become metadata of the file.
  allowedMetaFields: ["name", "type", "folder"],
});
// A page gives Uppy a `File` as its data.
uppy.addFile({ name: path.basename(file), data: fs.readFileSync(file), meta: { folder: "/uploads" } });
const { successful, failed } = await uppy.upload();
for (const { uploadURL } of successful) {
  // The file has the id of the upload.
  console.log(uploadURL.split("/").pop());
}
for (const { error } of failed) {
  console.error(error);
  process.exitCode = 1;
}
