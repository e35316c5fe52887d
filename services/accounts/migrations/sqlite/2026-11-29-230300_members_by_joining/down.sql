DROP INDEX IF EXISTS memberships_by_joining;
