-- The SHA-256 that a client announces of an upload whose parts it sends to the store itself.
ALTER TABLE file_upload ADD COLUMN sha256 text;
-- Until when such a part can be written by the address that the client has: its row stays as long.
ALTER TABLE file_blob ADD COLUMN url_until timestamp;
