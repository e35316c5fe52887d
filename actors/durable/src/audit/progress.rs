//! Where a verifier is in its round over all chains, kept in the database: so chains are verified to their ends that take longer
//! than a process lives.
//!
//! A place is signed like a checkpoint, by the key that signs those. It is good for a day, and for the rest of one
//! round: the next one always begins with the first chain. So what it passes over is verified within two rounds.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension as _, TenantId, Tx, on, sealing::Sealer, types::Moment,
};
use serde::{Deserialize, Serialize};

use super::{
    SigningKeyId, SigningKeys, VerifiedPlace,
    chain::to_hex,
    signing::{Signed, Signing},
    tables::audit_verifier,
};
use crate::clock::now;

/// An older place is not gone on from.
const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a round over all chains is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The chains of tenants before this one are verified.
    pub(super) tenant: TenantId,
    /// How far its own chain is; `None` for all of it.
    pub(super) place: Option<VerifiedPlace>,
}

/// What is signed: the text of its JSON as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    verifier: String,
    at: Moment,
    progress: Progress,
}

/// Where the verifier `name` goes on; `None` if it begins again.
pub(super) async fn load(
    c: &mut Connection,
    name: &'static str,
    keys: &SigningKeys,
) -> Result<Option<Progress>, DbError> {
    let query = audit_verifier::table.find(name).select((
        audit_verifier::place,
        audit_verifier::key_id,
        audit_verifier::signature,
    ));
    let row = on!(c, |c| query.first(c).await).optional()?;
    let Some(row) = row else { return Ok(None) };
    let (text, key, signature): (String, Option<SigningKeyId>, Option<String>) = row;
    let is_ours = match (key, signature) {
        // Without a key each writer of the database can say that all is verified; but then nothing is signed at all.
        (None, None) => keys.is_empty(),
        (Some(key), Some(signature)) => keys.check_text(key, &text, &signature) == Signed::Right,
        _ => false,
    };
    let now = now(c).await?;
    let statement = serde_json::from_str::<Statement>(&text).ok();
    Ok(statement
        .filter(|it| is_ours && it.verifier == name && it.at <= now && it.at + GOOD_FOR > now)
        .map(|it| it.progress))
}

/// Keeps where it is; `None` restarts it.
pub(super) async fn save(
    tx: &mut Tx,
    name: &'static str,
    sealer: Option<&Sealer>,
    progress: Option<Progress>,
) -> Result<(), DbError> {
    let former = diesel::delete(audit_verifier::table.find(name));
    on!(tx, |c| former.execute(c).await)?;
    let Some(progress) = progress else {
        return Ok(());
    };
    let signing = Signing::load_made(tx, sealer).await?;
    let statement = Statement {
        verifier: name.to_owned(),
        at: now(tx).await?,
        progress,
    };
    // It consists of texts and numbers.
    let text = serde_json::to_string(&statement).unwrap_or_default();
    let signature = signing.sign(&text).as_deref().map(to_hex);
    let row = (
        audit_verifier::name.eq(name),
        audit_verifier::place.eq(text),
        audit_verifier::key_id.eq(signing.key()),
        audit_verifier::signature.eq(signature),
    );
    let insert = diesel::insert_into(audit_verifier::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}
