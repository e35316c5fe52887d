//! What the sealer proves before it signs: the links behind the newest checkpoint are computed again from there.

use dotmac_db::{Connection, DbError, TenantId};

use super::{Broken, Fault, Hash, SigningKeys, checkpoint, links, signing::Signed};

/// What is written down of a chain that is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) tenant: TenantId,
    /// Behind which number it begins; 0 unless retention has deleted entries.
    pub(super) start: i64,
    /// The number and hash of the last link.
    pub(super) number: i64,
    pub(super) hash: Hash,
    /// The number of the newest checkpoint.
    pub(super) checked: i64,
}

/// A link that may be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proved {
    pub(super) number: i64,
    pub(super) hash: Hash,
    /// The digest of the checkpoint before it.
    pub(super) previous: Option<Hash>,
}

/// Computes the links behind the newest checkpoint again, at most 1,000; the last of them may be signed.
pub(super) async fn prove(
    c: &mut Connection,
    keys: &SigningKeys,
    claim: Claim,
) -> Result<Result<Proved, Broken>, DbError> {
    let broken = |number, fault| {
        let entry = None;
        Broken {
            number,
            entry,
            fault,
        }
    };
    let newest = checkpoint::newest(c, claim.tenant).await?;
    let signed = newest.as_ref().map(|it| keys.check(it));
    let (from, previous) = match &newest {
        None => ((0, Hash::default()), None),
        Some(it) => ((it.number(), it.hash()), Some(it.checkpoint.digest())),
    };
    let fault = match signed {
        _ if from.0 != claim.checked => Some(Fault::CheckpointMissing),
        None if claim.start > 0 => Some(Fault::BeginningMissing),
        None | Some(Signed::Right | Signed::Unsigned) => None,
        Some(Signed::Unchecked | Signed::Wrong) => Some(Fault::Signature),
    };
    if let Some(fault) = fault {
        return Ok(Err(broken(claim.checked.saturating_add(1), fault)));
    }
    let page = links::page(c, claim.tenant, from.0, i64::MAX).await?;
    let is_last = page.is_last;
    let (number, hash) = match page.compute(from, |_, _| Ok(())) {
        Ok(end) => end,
        Err(broken) => return Ok(Err(broken)),
    };
    let fault = match number {
        _ if number == from.0 => Some(Fault::EndMissing),
        _ if is_last && number < claim.number => Some(Fault::EndMissing),
        _ if number == claim.number && hash != claim.hash => Some(Fault::Checkpoint),
        _ => None,
    };
    Ok(match fault {
        Some(fault) => Err(broken(number.saturating_add(1), fault)),
        None => Ok(Proved {
            number,
            hash,
            previous,
        }),
    })
}
