//! Records changes over the admin socket in the audit log: as acts of the system, with the user and process of the
//! caller.
//!
//! An act is done first and recorded then. The socket is there for when other things are broken: a database that is away must
//! not keep an operator from restarting it. What could not be recorded is in the log of the program.

use std::time::Duration;

use dotmac_db::{DbError, ModuleDb, Tx};
use tracing::warn;

use crate::audit::{Audit as _, AuditedAct, Entry, SystemActs as _};

/// The longest that an answer waits for the entry.
const WITHIN: Duration = Duration::from_secs(2);

/// Records an act upon `what` that `by` has done.
pub(super) async fn record(
    audit: Option<&ModuleDb>,
    act: AuditedAct,
    (what, detail): (&str, Option<String>),
    by: String,
) {
    let Some(audit) = audit else {
        return;
    };
    let mut entry = Entry::new(act.name(), "admin.daemon", what).detail("by", by);
    if let Some(detail) = detail {
        entry = entry.detail("value", detail);
    }
    let db = audit.system("an operator acts over the admin socket");
    let recorded = db.act("record act of an operator", async move |tx: &mut Tx| {
        Ok::<_, DbError>(tx.audit(entry)?.of(()))
    });
    let error = match tokio::time::timeout(WITHIN, recorded).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => dotmac_causes::chain(&error),
        Err(_) => format!("no answer of the database within {WITHIN:?}"),
    };
    warn!(
        act = act.name(),
        error, "an act over the admin socket was not recorded in the audit log"
    );
}
