"""Uploads a file in parts, and goes on where a cut connection ended: python upload.py FILE (tuspy 1.1)."""

import os
import sys

from tusclient.client import TusClient

path = sys.argv[1]
client = TusClient(
    os.environ["DOTMAC_URL"] + "/api/v1/files/tus",
    headers={"Authorization": "Bearer " + os.environ["DOTMAC_TOKEN"]},
)
uploader = client.uploader(
    path,
    chunk_size=4 * 1024 * 1024,
    metadata={"filename": os.path.basename(path), "folder": "/uploads"},
    retries=20,
    retry_delay=0.5,
    upload_checksum=True,
)
uploader.upload()
# The file has the id of the upload.
print(uploader.url.rsplit("/", 1)[1])
