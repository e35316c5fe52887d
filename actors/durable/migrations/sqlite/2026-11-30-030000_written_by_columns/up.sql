-- SQLite has no functions of its own: the program inserts on the thread that commits.
SELECT 1;
