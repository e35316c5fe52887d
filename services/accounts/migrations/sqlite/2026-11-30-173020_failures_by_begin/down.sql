DROP INDEX IF EXISTS login_throttle_by_begin;
