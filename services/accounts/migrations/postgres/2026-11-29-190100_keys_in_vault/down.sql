ALTER TABLE signing_keys DROP COLUMN in_vault;
