"""Reads a bucket by boto3: sizes and hashes of what is in it, and uploads in parts that were not completed. With `abort` these end."""

import hashlib
import json
import sys

import boto3
from botocore.config import Config

endpoint, access, secret, bucket, *aborts = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=access,
    aws_secret_access_key=secret,
    region_name="us-east-1",
    config=Config(s3={"addressing_style": "path"}),
)
blobs = []
for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="blobs/"):
    for found in page.get("Contents", []):
        body = client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
        blobs.append([found["Size"], hashlib.sha256(body).hexdigest()])
uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
for upload in uploads if aborts else []:
    client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
print(json.dumps({"blobs": blobs, "uploads": [upload["Key"] for upload in uploads]}))
