DROP INDEX IF EXISTS devices_by_use;
