ALTER TABLE passkeys DROP COLUMN vouched_by;
