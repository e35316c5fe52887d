//! Secrets: made with an endpoint, rotated with an overlap in which both sign.

use std::time::Duration;

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    sealing::Sealer,
};
use secrecy::SecretString;

use super::endpoints;
use crate::{
    WebhooksError,
    audit::{self, ROTATE},
    signing::NewSecret,
    store::{
        endpoints::{EndpointId, EndpointRow},
        secrets::{self, SECRETS, SecretRow},
        states::Signing,
    },
};

/// The longest overlap.
pub(crate) const LONGEST_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most secrets that sign at a time: each makes a signature of every delivery.
const MOST_SECRETS: usize = 5;

/// Makes a secret for an endpoint; what is to be shown of it.
pub(super) async fn make(
    tx: &mut TenantTx,
    sealer: &Sealer,
    endpoint_id: EndpointId,
    signing: Signing,
) -> Result<SecretString, WebhooksError> {
    let made = NewSecret::make(signing)?;
    let id = Id::new();
    let row = SecretRow {
        tenant_id: tx.tenant(),
        id,
        endpoint_id,
        secret_enc: sealer.seal(SECRETS.of(id), made.bytes.as_slice())?,
        public_key: made.public_key,
        created_at: Moment::now(),
        expires_at: None,
    };
    secrets::insert(tx, row).await?;
    Ok(made.shown)
}

/// Gives an endpoint another secret; the former one also signs for `overlap`.
///
/// # Errors
///
/// [`WebhooksError::NotFound`]; [`WebhooksError::State`] if so many former ones sign already.
pub(crate) async fn rotate(
    tx: &mut TenantTx,
    sealer: &Sealer,
    id: EndpointId,
    overlap: Duration,
) -> Result<Audited<(EndpointRow, SecretString)>, WebhooksError> {
    let row = endpoints::find(tx, id).await?;
    let now = Moment::now();
    if secrets::shown(tx, vec![id], now).await?.len() >= MOST_SECRETS {
        let wanted = "five of its secrets sign already; wait until one of them has expired";
        return Err(WebhooksError::state(row.state, wanted));
    }
    secrets::retire(tx, id, now + overlap).await?;
    let shown = make(tx, sealer, id, row.signing).await?;
    Ok(audit::record(tx, ROTATE, id)?.of((row, shown)))
}
