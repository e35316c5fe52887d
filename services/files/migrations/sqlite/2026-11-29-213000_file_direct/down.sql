ALTER TABLE file_blob DROP COLUMN url_until;
ALTER TABLE file_upload DROP COLUMN sha256;
