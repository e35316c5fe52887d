-- SQLite has no sequences.
SELECT 1;
