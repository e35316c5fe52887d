DROP TABLE registrations;
DROP INDEX one_time_tokens_by_expiry;
ALTER TABLE one_time_tokens DROP COLUMN address;
ALTER TABLE one_time_tokens DROP COLUMN tries;
ALTER TABLE one_time_tokens DROP COLUMN code_hmac;
ALTER TABLE one_time_tokens DROP COLUMN browser;
