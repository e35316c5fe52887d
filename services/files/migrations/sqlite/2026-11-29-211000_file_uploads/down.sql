ALTER TABLE file_blob DROP COLUMN start_at;
ALTER TABLE file_blob DROP COLUMN upload_id;
DROP TABLE file_upload;
