DROP INDEX CONCURRENTLY IF EXISTS api_keys_by_service_account;
