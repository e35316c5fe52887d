DROP INDEX CONCURRENTLY IF EXISTS login_throttle_by_begin;
