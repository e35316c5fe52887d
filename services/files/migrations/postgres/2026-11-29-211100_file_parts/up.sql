-- For the parts of an upload, in their order.
CREATE INDEX CONCURRENTLY file_blob_by_upload ON file_blob (tenant_id, upload_id, start_at) WHERE upload_id IS NOT NULL;
