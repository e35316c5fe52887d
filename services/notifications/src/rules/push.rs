//! Browsers of users that take push messages.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::DateTime;
use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{
        TenantTx,
        types::{Id, Moment},
    },
    egress::Egress,
    routing::IfMatch,
    sealing::Sealer,
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    audit::{PUSH_SUBSCRIBE, PUSH_UNSUBSCRIBE},
    bodies::NewSubscription,
    error::{Missing, NotificationsError},
    next_hop::{AUTH_SECRET, PUBLIC_KEY, ReceiverKeys},
    store::{
        deliveries::UserId,
        push::{self as store, SUBSCRIPTION, SubscriptionId, SubscriptionRow},
    },
};

/// The most browsers of a user.
const MOST: usize = 20;

/// Address and keys of a browser, as they are sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    endpoint: String,
    p256dh: String,
    auth: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        for text in [&mut self.endpoint, &mut self.p256dh, &mut self.auth] {
            text.zeroize();
        }
    }
}

/// A browser that can be sent something.
pub(super) struct Browser {
    pub(super) endpoint: Zeroizing<String>,
    pub(super) keys: ReceiverKeys,
}

/// Opens what is stored of a browser.
///
/// # Errors
///
/// It does not open now.
pub(super) fn open(sealer: &Sealer, row: &SubscriptionRow) -> Result<Browser, String> {
    let opened = sealer.open(SUBSCRIPTION.of(row.id), &row.subscription_enc);
    let opened = opened.map_err(|error| error.to_string())?;
    let broken = || "the subscription is not kept as it should be".to_owned();
    let mut kept: Kept = serde_json::from_str(opened.expose_secret()).map_err(|_| broken())?;
    let keys = keys(&kept.p256dh, &kept.auth).map_err(|_| broken())?;
    Ok(Browser {
        endpoint: Zeroizing::new(std::mem::take(&mut kept.endpoint)),
        keys,
    })
}

/// Reads the keys of a browser; the field that is none.
fn keys(p256dh: &str, auth: &str) -> Result<ReceiverKeys, &'static str> {
    let read = |text: &str| BASE64.decode(text.trim_end_matches('=')).ok();
    let public: Option<[u8; PUBLIC_KEY]> = read(p256dh).and_then(|it| it.try_into().ok());
    let auth: Option<[u8; AUTH_SECRET]> = read(auth).and_then(|it| it.try_into().ok());
    let keys = ReceiverKeys {
        public: public.ok_or("keys.p256dh")?,
        auth: Zeroizing::new(auth.ok_or("keys.auth")?),
    };
    match keys.are_sound() {
        true => Ok(keys),
        false => Err("keys.p256dh"),
    }
}

fn endpoint_key(endpoint: &str) -> String {
    let hash = digest(&SHA256, endpoint.as_bytes());
    hash.as_ref().iter().map(|it| format!("{it:02x}")).collect()
}

/// Has a browser of `user` take push messages. One that does already keeps its id; one that another user left has the new one.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] for what is no subscription; [`NotificationsError::TooManySubscriptions`].
pub(crate) async fn subscribe(
    tx: &mut TenantTx,
    (sealer, egress): (&Sealer, &Egress),
    user: UserId,
    new: NewSubscription,
) -> Result<Audited<SubscriptionRow>, NotificationsError> {
    let checked = egress.check_url(&new.endpoint);
    checked
        .map_err(|error| NotificationsError::field("endpoint", error.code(), error.to_string()))?;
    let host = url::Url::parse(&new.endpoint).ok();
    let host = host
        .as_ref()
        .and_then(url::Url::host_str)
        .unwrap_or_default();
    keys(&new.keys.p256dh, &new.keys.auth)
        .map_err(|field| NotificationsError::field(field, "invalid", "is no key of a browser"))?;
    let now = Moment::now();
    let expires_at = new
        .expiration_time
        .and_then(DateTime::from_timestamp_millis)
        .map(Moment::from);
    if expires_at.is_some_and(|it| it <= now) {
        let problem = "is over";
        return Err(NotificationsError::field(
            "expiration_time",
            "invalid",
            problem,
        ));
    }
    let endpoint_key = endpoint_key(&new.endpoint);
    let known = store::find_by_endpoint(tx, endpoint_key.clone()).await?;
    let (id, version) = match &known {
        Some(row) if row.user_id == user => (row.id, row.version + 1),
        _ => (Id::new(), 1),
    };
    if let Some(row) = &known {
        store::delete(tx, row.id, None).await?;
    } else if store::of_users(tx, vec![user]).await?.len() >= MOST {
        return Err(NotificationsError::TooManySubscriptions(MOST));
    }
    let push_service = host.to_owned();
    let kept = Kept {
        endpoint: new.endpoint,
        p256dh: new.keys.p256dh,
        auth: new.keys.auth,
    };
    let written = Zeroizing::new(serde_json::to_string(&kept).unwrap_or_default());
    let row = SubscriptionRow {
        tenant_id: tx.tenant(),
        id,
        user_id: user,
        endpoint_key,
        push_service,
        subscription_enc: sealer.seal(SUBSCRIPTION.of(id), written.as_str())?,
        label: new.label,
        expires_at,
        created_at: known.map_or(now, |it| it.created_at),
        version,
    };
    store::insert(tx, row.clone()).await?;
    let resource = id.to_string();
    let entry = Entry::new(
        PUSH_SUBSCRIBE.name(),
        "notifications.push_subscription",
        resource,
    );
    let entry = entry.detail("push_service", row.push_service.clone());
    Ok(tx.audit(entry)?.of(row))
}

/// A browser of `user`.
///
/// # Errors
///
/// [`NotificationsError::NotFound`].
pub(crate) async fn find(
    tx: &mut TenantTx,
    user: UserId,
    id: SubscriptionId,
) -> Result<SubscriptionRow, NotificationsError> {
    let found = store::find(tx, id).await?.filter(|it| it.user_id == user);
    found.ok_or(NotificationsError::NotFound(Missing::Subscription))
}

/// Ends the subscription of a browser of `user`, if it is in a version that the client has seen.
///
/// # Errors
///
/// [`NotificationsError::NotFound`], [`NotificationsError::Changed`].
pub(crate) async fn unsubscribe(
    tx: &mut TenantTx,
    user: UserId,
    id: SubscriptionId,
    seen: &IfMatch,
) -> Result<Audited<()>, NotificationsError> {
    seen.check(find(tx, user, id).await?.version)?;
    end(tx, user, id).await
}

async fn end(
    tx: &mut TenantTx,
    user: UserId,
    id: SubscriptionId,
) -> Result<Audited<()>, NotificationsError> {
    if store::delete(tx, id, Some(user)).await? == 0 {
        return Err(NotificationsError::NotFound(Missing::Subscription));
    }
    let resource = id.to_string();
    let entry = Entry::new(
        PUSH_UNSUBSCRIBE.name(),
        "notifications.push_subscription",
        resource,
    );
    Ok(tx.audit(entry)?.of(()))
}

/// Ends it by its endpoint, in any version: all that a browser knows of it.
///
/// # Errors
///
/// [`NotificationsError::NotFound`].
pub(crate) async fn unsubscribe_endpoint(
    tx: &mut TenantTx,
    user: UserId,
    endpoint: &str,
) -> Result<Audited<()>, NotificationsError> {
    let found = store::find_by_endpoint(tx, endpoint_key(endpoint)).await?;
    let missing = NotificationsError::NotFound(Missing::Subscription);
    end(tx, user, found.ok_or(missing)?.id).await
}
