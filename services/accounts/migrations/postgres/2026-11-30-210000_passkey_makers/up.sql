-- The administrator who had set the password with which the user registered the passkey, and so may have registered it.
ALTER TABLE passkeys ADD COLUMN vouched_by uuid;
