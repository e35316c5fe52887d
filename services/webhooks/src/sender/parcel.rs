//! What is needed to send a delivery, read in the transaction that claims it: so a rotated secret or another URL counts from the
//! next claim on, which is three seconds before the attempt at the most.

use std::{collections::HashMap, sync::Arc};

use dotmac_platform::{
    db::{DbError, Tx, types::Moment},
    sealing::Sealer,
};
use secrecy::{ExposeSecret as _, SecretBox};

use crate::{
    WebhooksError,
    rules::headers,
    store::{
        claims::Claimed,
        endpoints::{self, EndpointId, EndpointRow, Headers},
        messages::{self, MessageRow},
        secrets::{self, SECRETS, SecretRow},
    },
};

/// A claimed delivery with all that belongs to it.
pub(crate) struct Parcel {
    pub(crate) claimed: Claimed,
    pub(crate) endpoint: Arc<Receiver>,
    pub(crate) message: Arc<MessageRow>,
}

/// An endpoint with its secrets, still sealed.
pub(crate) struct Receiver {
    pub(crate) row: EndpointRow,
    secrets: Vec<SecretRow>,
}

impl Receiver {
    /// What deliveries are signed with, the newest secret first.
    pub(crate) fn open_secrets(
        &self,
        sealer: &Sealer,
    ) -> Result<Vec<SecretBox<[u8]>>, WebhooksError> {
        let open = |row: &SecretRow| sealer.open(SECRETS.of(row.id), &row.secret_enc);
        let opened: Result<_, _> = self.secrets.iter().map(open).collect();
        Ok(opened?)
    }

    pub(crate) fn open_headers(&self, sealer: &Sealer) -> Result<Headers, WebhooksError> {
        headers::open(sealer, self.row.id, self.row.headers_enc.as_ref())
    }
}

/// The parcels of what was claimed. One whose endpoint or message is gone is left out: its lease expires, and the sweep
/// takes it away.
pub(crate) async fn load(
    tx: &mut Tx,
    claimed: Vec<Claimed>,
    now: Moment,
) -> Result<Vec<Parcel>, DbError> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids: Vec<EndpointId> = claimed.iter().map(|it| it.endpoint_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = endpoints::of(tx, ids.clone()).await?;
    let mut secrets: HashMap<EndpointId, Vec<SecretRow>> = HashMap::new();
    for row in secrets::of(tx, ids, now).await? {
        secrets.entry(row.endpoint_id).or_default().push(row);
    }
    let receivers: HashMap<_, _> = rows
        .into_iter()
        .map(|row| {
            let secrets = secrets.remove(&row.id).unwrap_or_default();
            (row.id, Arc::new(Receiver { row, secrets }))
        })
        .collect();
    let ids = claimed.iter().map(|it| (it.tenant_id, it.message_id));
    let messages = messages::of(tx, &ids.collect()).await?;
    let messages: HashMap<_, _> = messages
        .into_iter()
        .map(|(id, row)| (id, Arc::new(row)))
        .collect();
    let parcels = claimed.into_iter().filter_map(|claimed| {
        let endpoint = Arc::clone(receivers.get(&claimed.endpoint_id)?);
        let message = messages.get(&(claimed.tenant_id, claimed.message_id))?;
        let message = Arc::clone(message);
        Some(Parcel {
            claimed,
            endpoint,
            message,
        })
    });
    Ok(parcels.collect())
}

/// The bytes of secrets, for as long as they are borrowed.
pub(crate) fn exposed(secrets: &[SecretBox<[u8]>]) -> impl Iterator<Item = &[u8]> {
    secrets.iter().map(|it| it.expose_secret())
}
