ALTER SEQUENCE audit_position CACHE 1;
ALTER SEQUENCE event_position CACHE 1;
