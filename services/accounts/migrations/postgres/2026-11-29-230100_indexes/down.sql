DROP INDEX role_bindings_by_role;
DROP INDEX api_keys_by_service_account;
DROP INDEX api_keys_by_user;
