//! The remedy for each reason of a component's state, as `dotmac why` prints it. docs/operations.md has the
//! same texts; a test compares both.

/// Each reason with its remedy, in the order of the documentation.
pub const REMEDIES: &[(&str, &str)] = &[
    ("starting", "wait"),
    ("dependency", "look at the component that it needs"),
    ("dependency_changed", "nothing"),
    (
        "stalled",
        "find the worker whose tasks block: its own lines are near the `ERROR` line",
    ),
    ("requested", "nothing"),
    ("shutdown", "nothing"),
    ("panicked", "report it"),
    (
        "hung",
        "look for blocking work; `dotmac_leaked_threads` counts threads that never ended",
    ),
    ("stopped", "report it"),
    ("error", "see the error"),
    ("finished", "nothing"),
    ("thread_lost", "check the limit on threads"),
    ("start_timeout", "look at its log lines"),
    (
        "workers_blocked",
        "find the handler: the log names the workers and the time. Move its work to `web::block`",
    ),
    (
        "unreachable",
        "check address, network, firewall; the component retries",
    ),
    (
        "authentication_failed",
        "check user and password, token, or role and secret id",
    ),
    (
        "credentials_refused",
        "check that Vault or the file has the same credentials as the server; the component \
         retries",
    ),
    ("credentials_missing", "look at secrets"),
    (
        "tls_failed",
        "check `…_CA_CERT`, `…_CLIENT_CERT`, the host name, the server's certificate",
    ),
    ("database_missing", "create it, or correct the name"),
    ("read_only", "point at the primary; the component retries"),
    (
        "too_many_connections",
        "lower `DOTMAC_DATABASE_POOL_SIZE` or raise the server's limit",
    ),
    (
        "no_descriptors",
        "raise `LimitNOFILE` (`ulimit -n`), or lower `DOTMAC_HTTP_MAX_CONNECTIONS`; `process_open_fds` shows what is open",
    ),
    (
        "pool_exhausted",
        "look for slow statements and long work; then raise `DOTMAC_DATABASE_POOL_SIZE`",
    ),
    (
        "work_blocked",
        "the log names the work: it must not compute or wait within its transaction; move that before or after it",
    ),
    (
        "slow",
        "look at the network and the server's load; `db_client_operation_duration_seconds` has the times",
    ),
    ("disk_full", "free space on its disk"),
    ("not_accepting", "wait"),
    (
        "data_corrupted",
        "stop the daemon and restore a backup, or save what can be read with `sqlite3 FILE .recover`; on PostgreSQL look at its log and disk, `REINDEX` or restore",
    ),
    (
        "locked",
        "stop that process, or give this one another file; end that session's transaction: `SELECT \
         pg_terminate_backend(PID)`",
    ),
    (
        "migrating",
        "wait; the log reports if the migration gave way",
    ),
    (
        "schema_newer",
        "run the newer program, or revert these migrations with it",
    ),
    (
        "migration_failed",
        "correct it and restart; there is no automatic retry",
    ),
    ("migration_pending", "`dotmac migrate up`"),
    ("unusable_file", "the log names the file and the remedy"),
    ("timeout", "look at Vault"),
    ("sealed", "unseal it"),
    ("not_initialized", "initialise it"),
    (
        "standby",
        "look at the cluster; configure the address of the active node or of a load balancer",
    ),
    (
        "rate_limited",
        "raise the quota, or `DOTMAC_VAULT_REFRESH_INTERVAL`; lower `DOTMAC_TELEMETRY_SAMPLE_RATIO`",
    ),
    ("permission_denied", "add the path to the policy"),
    ("namespace_missing", "correct `DOTMAC_VAULT_NAMESPACE`"),
    ("mount_missing", "correct `DOTMAC_VAULT_MOUNT`"),
    ("path_missing", "write it, or correct the reference"),
    ("field_missing", "name the field: `vault:PATH#FIELD`"),
    (
        "role_missing",
        "correct `DOTMAC_DATABASE_VAULT_ROLE`, or write the role",
    ),
    (
        "database_engine_failed",
        "bring PostgreSQL back. If db is not `unreachable`: check that Vault reaches PostgreSQL \
         and can log in there; the log has Vault's message",
    ),
    (
        "lease_expired",
        "see the reason of secrets; both recover without a restart",
    ),
    ("bad_answer", "check the address"),
    ("invalid_configuration", "the log names them"),
    (
        "events_parked",
        "`dotmac events subscribers` has the event's `sequence` and the error; correct the cause, \
         then run `dotmac events retry NAME`",
    ),
    (
        "events_expired",
        "find out why it was so far behind; rewind it to the oldest event",
    ),
    (
        "broker_unreachable",
        "the log has the broker's message; bring it back",
    ),
    (
        "broker_not_durable",
        "correct the stream; rewind the relay if the broker has lost events",
    ),
    (
        "too_many_held",
        "correct the cause; held events are still retried",
    ),
    (
        "position_ahead",
        "restore a base backup, which keeps the ids, or begin with an empty log",
    ),
    (
        "audit_chain_broken",
        "do not change the database; compare it with the checkpoints in this program's logs and \
         with a backup, and find out who could write to it",
    ),
    (
        "audit_not_archived",
        "let the program append to the file that the log names, or free space on its disk",
    ),
    (
        "audit_not_signed",
        "add the key that sealed the signing key to `DOTMAC_APP_MASTER_KEY`; the log names the \
         missing key",
    ),
    (
        "scanner_unavailable",
        "start clamd, or check `DOTMAC_FILES_CLAMD`; the log has the error",
    ),
    ("storage_full", "free space in the store, or enlarge it"),
    (
        "storage_refused",
        "check `DOTMAC_FILES_ACCESS_KEY`, `DOTMAC_FILES_SECRET_KEY` and their rights on the bucket",
    ),
    (
        "storage_unusable",
        "check `DOTMAC_FILES_PATH` and its permissions, or `DOTMAC_FILES_ENDPOINT` and \
         `DOTMAC_FILES_BUCKET`; the log has the error",
    ),
    (
        "no_answer",
        "look at the collector; nothing else is affected",
    ),
    (
        "relay_refuses",
        "look at its log; `dotmac check --connect` shows its answer",
    ),
    ("rejected", "check protocol, path and credentials"),
    ("misconfigured", "check `DOTMAC_TELEMETRY_OTLP_ENDPOINT`"),
    ("no_resources", "check the limit on threads"),
];

/// The remedy for `reason`; `None` for a reason that only another version has.
pub(super) fn remedy(reason: &str) -> Option<&'static str> {
    let known = REMEDIES.iter().find(|(word, _)| *word == reason);
    known.map(|(_, remedy)| *remedy)
}
