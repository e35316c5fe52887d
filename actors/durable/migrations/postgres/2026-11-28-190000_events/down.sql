DROP TABLE event_held;
DROP TABLE event_subscriber;
DROP TABLE event_retention;
DROP TABLE event;
DROP SEQUENCE event_position;
