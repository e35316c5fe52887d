DROP INDEX CONCURRENTLY IF EXISTS memberships_by_joining;
