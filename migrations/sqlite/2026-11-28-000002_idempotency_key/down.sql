DROP TABLE idempotency_key;
DELETE FROM schema_compatible WHERE version = '20261128000002';
