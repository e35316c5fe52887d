DROP INDEX CONCURRENTLY file_blob_by_upload;
