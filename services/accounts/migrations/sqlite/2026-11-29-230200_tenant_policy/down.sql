ALTER TABLE tenants DROP COLUMN mfa_required;
