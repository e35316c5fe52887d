-- Only PostgreSQL needs an index.
SELECT 1;
