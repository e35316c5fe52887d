//! Makes checkpoints: which chains are due, what is proved before one is signed, and what is handed out.

use std::{sync::LazyLock, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, TenantId, Tx, on,
    sealing::{Sealer, SealingError},
    types::Moment,
};
use dotmac_supervision::EVIDENCE;
use opentelemetry::{global, metrics::Counter};
use tracing::info;

use super::{
    Broken, Checkpoint, Hash, SigningKeys, checkpoint,
    proof::{Claim, prove},
    register::Register,
    signing::Signing,
    tables::audit_chain,
};
use crate::clock::now;

/// Chains of one transaction.
const CHAINS_AT_ONCE: i64 = 100;
/// After so many links of a transaction were computed again, further chains wait for the next one.
const LINKS_AT_ONCE: i64 = 2000;
/// So long it waits after a chain could not be signed, at least.
const RETRY: Duration = Duration::from_secs(10);
/// So long after a checkpoint comes the next one, if there are further links;
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// or after so many links. No more than these are between two checkpoints.
pub const CHECKPOINT_LINKS: i64 = super::links::AT_ONCE;

static CHECKPOINTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.audit")
        .u64_counter("dotmac.audit.checkpoints")
        .with_description("Checkpoints of audit chains that this process has made")
        .build()
});

/// What came of the checkpoints that were due.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Whether they could be signed, as far as keys go; `None` if none was due, or none could be made for other reasons.
    pub(super) signed: Option<Result<(), SealingError>>,
    /// Those that were made.
    pub(super) made: Vec<Checkpoint>,
    /// Chains that are not what was signed before, which are not signed.
    pub(super) broken: Vec<(TenantId, Broken)>,
    /// Whether the register does not fit the chains, so that nothing is signed.
    pub(super) is_register_wrong: bool,
}

/// Makes the checkpoints that are due.
pub(super) async fn check(tx: &mut Tx, sealer: Option<&Sealer>) -> Result<Checked, DbError> {
    let at = now(tx).await?;
    let mut done = Checked::default();
    let due = due(tx, at).await?;
    if due.is_empty() {
        return Ok(done);
    }
    let keys = SigningKeys::load(tx, sealer).await?;
    let register = Register::load(tx, &keys).await?;
    if register == Register::Wrong {
        done.is_register_wrong = true;
        postpone(tx, due, at).await?;
        return Ok(done);
    }
    let signing = Signing::load(tx, sealer).await?;
    if let Signing::Not(error) = signing {
        done.signed = Some(Err(error));
        postpone(tx, due, at).await?;
        return Ok(done);
    }
    let mut proved = 0;
    for claim in due {
        if proved >= LINKS_AT_ONCE {
            break;
        }
        let link = match prove(tx, &keys, claim).await? {
            Ok(link) => link,
            Err(broken) => {
                done.broken.push((claim.tenant, broken));
                postpone(tx, [claim], at).await?;
                continue;
            }
        };
        proved += link.number - claim.checked;
        let place = (link.number, link.hash, link.previous);
        let made = checkpoint::write(tx, &signing, claim.tenant, place, at).await?;
        let chain = diesel::update(audit_chain::table.find(claim.tenant)).set((
            audit_chain::checked.eq(link.number),
            audit_chain::checked_at.eq(at),
        ));
        on!(tx, |c| chain.execute(c).await)?;
        done.made.push(made);
        done.signed = Some(Ok(()));
    }
    register.write(tx, &signing, at).await?;
    Ok(done)
}

/// The chains whose time has come, or that have grown.
pub(super) async fn due(c: &mut Connection, at: Moment) -> Result<Vec<Claim>, DbError> {
    let is_late = audit_chain::checked_at
        .le(at - CHECKPOINT_EVERY)
        // Nothing in the program writes that.
        .or(audit_chain::checked_at.gt(at + CHECKPOINT_EVERY));
    let is_long = audit_chain::checked
        .le(audit_chain::number - CHECKPOINT_LINKS)
        .and(audit_chain::checked_at.le(at));
    let query = audit_chain::table
        .filter(audit_chain::number.gt(audit_chain::checked))
        .filter(is_late.or(is_long))
        .order(audit_chain::checked_at)
        .limit(CHAINS_AT_ONCE)
        .select((
            audit_chain::tenant_id,
            audit_chain::start,
            audit_chain::number,
            audit_chain::hash,
            audit_chain::checked,
        ));
    let due: Vec<(TenantId, i64, i64, Vec<u8>, i64)> = on!(c, |c| query.load(c).await)?;
    let claim = |(tenant, start, number, hash, checked): (_, _, _, Vec<u8>, _)| Claim {
        tenant,
        start,
        number,
        // One that is none fits no link.
        hash: Hash::from_bytes(&hash).unwrap_or_default(),
        checked,
    };
    Ok(due.into_iter().map(claim).collect())
}

/// Has them tried again later.
async fn postpone(
    tx: &mut Tx,
    claims: impl IntoIterator<Item = Claim>,
    at: Moment,
) -> Result<(), DbError> {
    for claim in claims {
        let chain = diesel::update(audit_chain::table.find(claim.tenant));
        let noted = chain.set(audit_chain::checked_at.eq(at + RETRY));
        on!(tx, |c| noted.execute(c).await)?;
    }
    Ok(())
}

/// What is kept elsewhere shows later what is missing here. To be called once it is committed.
pub(super) fn hand_out(made: &Checkpoint) {
    CHECKPOINTS.add(1, &[]);
    let checkpoint = serde_json::to_string(made).unwrap_or_default();
    info!(
        target: EVIDENCE,
        tenant = %made.tenant(),
        number = made.number(),
        hash = %made.hash(),
        checkpoint,
        "audit checkpoint: the chain of tenant {} has {} links, the last with hash {}",
        made.tenant(),
        made.number(),
        made.hash(),
    );
}
