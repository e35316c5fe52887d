-- Whether members of a tenant need a second factor for what is not about how they sign in.
ALTER TABLE tenants ADD COLUMN mfa_required BOOLEAN NOT NULL DEFAULT 0;
