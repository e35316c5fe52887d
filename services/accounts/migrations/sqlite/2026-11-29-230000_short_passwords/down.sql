ALTER TABLE passwords DROP COLUMN is_short;
