DROP INDEX file_blob_by_upload;
