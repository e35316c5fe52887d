-- SQLite has neither partitions nor roles.
SELECT 1;
