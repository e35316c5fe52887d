# What one dotmac daemon may do in OpenBao or Vault, and no more. Mounts and the role are those of
# `set-up`; leave out what you do not use. The `default` policy, which every token has, covers the rest:
# renewing and revoking the own token, renewing leases and looking at them, asking for the own capabilities.

# Secrets of the daemon, KV version 2. Version 1 has no `data/` in its paths.
path "secret/data/database/*" {
  capabilities = ["read"]
}

path "secret/data/app/*" {
  capabilities = ["read"]
}

# Accounts: the key that passwords are hashed with, and private signing keys, which the daemon makes. Without the second rule they
# are sealed in the database.
path "secret/data/accounts/pepper" {
  capabilities = ["read"]
}

path "secret/data/accounts/signing/*" {
  capabilities = ["create", "read"]
}

# The version of the KV engine is asked for once. Any caller that may read below the mount may read this path, so it
# needs no rule; DOTMAC_VAULT_KV_VERSION=2 saves the question.

# Users for PostgreSQL: `creds` makes one of a dynamic role, `static-creds` returns a static role's password.
path "database/creds/dotmac" {
  capabilities = ["read"]
}

path "database/static-creds/dotmac-static" {
  capabilities = ["read"]
}

# Giving a lease back as soon as its last connection is closed. Without it leases end by themselves.
path "sys/leases/revoke" {
  capabilities = ["update"]
}
