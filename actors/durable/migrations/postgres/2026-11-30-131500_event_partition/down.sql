DROP FUNCTION event_partition_drop(date);
DROP FUNCTION event_partition_add(date);
