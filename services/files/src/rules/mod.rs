//! The rules of files. Each is a function over a transaction of one tenant.

pub(crate) mod direct;
pub(crate) mod files;
pub(crate) mod links;
pub(crate) mod renditions;
pub(crate) mod scans;
pub(crate) mod uploads;
pub(crate) mod versions;

use dotmac_platform::db::TenantTx;

use crate::{
    FilesError,
    error::QuotaOf,
    service::Quotas,
    store::{
        blobs::{self, BlobId, DROPPING},
        usage::{self, Change, OwnerId, WHOLE},
    },
};

/// Uses more of both quotas.
///
/// # Errors
///
/// [`FilesError::Quota`]; nothing is used then, since the transaction is rolled back.
pub(crate) async fn take(
    tx: &mut TenantTx,
    owner: OwnerId,
    change: Change,
    quotas: Quotas,
) -> Result<(), FilesError> {
    for (of, owner, quota) in [
        (QuotaOf::Tenant, WHOLE, quotas.tenant),
        (QuotaOf::User, owner, quotas.user),
    ] {
        if !usage::grow(tx, owner, change, quota).await? {
            return Err(Quotas::exceeded(of));
        }
    }
    Ok(())
}

/// Gives both quotas back what is used less, or takes what was reserved.
pub(crate) async fn settle(
    tx: &mut TenantTx,
    owner: OwnerId,
    change: Change,
) -> Result<(), FilesError> {
    usage::change(tx, WHOLE, change).await?;
    usage::change(tx, owner, change).await?;
    Ok(())
}

/// The state of bytes after they were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// They are to be deleted.
    Dropping,
    /// A file has them.
    Kept,
    /// There is no row of them: not yet, or not any more.
    Absent,
}

/// Gives up bytes that arrive, and what is reserved for them. Does nothing if they do not arrive any more.
pub(crate) async fn give_up(tx: &mut TenantTx, blob: BlobId) -> Result<GivenUp, FilesError> {
    let Some((owner, reserved)) = blobs::give_up(tx, blob).await? else {
        let tenant = tx.tenant();
        let row = blobs::find(tx, tenant, blob).await?;
        return Ok(match row {
            Some(row) if row.state == DROPPING => GivenUp::Dropping,
            Some(_) => GivenUp::Kept,
            None => GivenUp::Absent,
        });
    };
    let change = Change {
        reserved: -reserved,
        ..Change::default()
    };
    settle(tx, owner, change).await?;
    Ok(GivenUp::Dropping)
}
