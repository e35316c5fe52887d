//! The answer with a session: its body, its cookies, and the delay of a refusal.

use std::time::{Duration, Instant};

use dotmac_platform::{
    db::types::Moment,
    prelude::*,
    routing::{RequestHead, WithHeaders},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    AccountsError, cookies,
    rules::sessions::{Issued, Secret},
    service::Service,
    store::{tenants, users::UserRow},
};

/// Refusals of what an attacker may guess are answered this long after the request, so that the time of an answer reveals
/// nothing.
const FLOOR: Duration = Duration::from_millis(400);

/// A session that has begun or gone on.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionBody {
    session_id: Uuid,
    user: SessionUser,
    /// How strongly the user was authenticated: 1 one factor, 2 two.
    acr: i32,
    /// When the session ends if it is not used.
    expires_at: Moment,
    /// For `Authorization: Bearer`; in mode `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// How long the access token is good, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    /// Good for one refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// Whose session it is.
#[derive(Serialize, ToSchema)]
struct SessionUser {
    id: Uuid,
    email: Option<String>,
    email_verified: bool,
    tenant: TenantBody,
}

/// A tenant in short.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantBody {
    pub(super) id: Uuid,
    pub(super) slug: String,
}

/// The session as an answer and, for a browser, its cookies.
pub(super) async fn answer(
    on: &Service,
    head: &RequestHead,
    issued: Issued,
    user: UserRow,
    device: Option<SecretString>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let (body, cookies) = session(on, head, issued, user, device).await?;
    Ok(with_cookies(body, cookies))
}

pub(super) fn with_cookies<T>(body: T, cookies: Vec<String>) -> WithHeaders<Json<T>> {
    let reply = WithHeaders::new(Json(body)).header("cache-control", "no-store");
    cookies
        .iter()
        .fold(reply, |reply, cookie| reply.header("set-cookie", cookie))
}

/// The session and the cookies of a browser.
pub(super) async fn session(
    on: &Service,
    head: &RequestHead,
    issued: Issued,
    user: UserRow,
    device: Option<SecretString>,
) -> Result<(SessionBody, Vec<String>), AccountsError> {
    let Issued { session, secret } = issued;
    let tenant = session.tenant_id;
    let found = on
        .open_db
        .read("read tenant", async move |c| tenants::find(c, tenant).await);
    let tenant = found.await?.ok_or(AccountsError::SessionEnded)?;
    let mut body = SessionBody {
        session_id: session.id.uuid(),
        user: SessionUser {
            id: user.id.uuid(),
            email: user.email,
            email_verified: user.email_verified_at.is_some(),
            tenant: TenantBody {
                id: tenant.id.uuid(),
                slug: tenant.slug,
            },
        },
        acr: session.acr,
        expires_at: session.idle_until.min(session.expires_at),
        access_token: None,
        token_type: None,
        expires_in: None,
        refresh_token: None,
    };
    let is_secure = on.settings.has_secure_cookies(head.is_secure());
    let mut set = Vec::new();
    match secret {
        Secret::Cookie(cookie) => {
            let name = cookies::session_name(is_secure);
            let lasting = on.settings.session_absolute;
            set.push(cookies::set(name, &cookie, lasting, is_secure));
        }
        Secret::Tokens(tokens) => {
            body.access_token = Some(tokens.access.expose_secret().to_owned());
            body.token_type = Some("Bearer");
            body.expires_in = Some(tokens.expires_in.as_secs());
            body.refresh_token = Some(tokens.refresh.expose_secret().to_owned());
        }
    }
    if let Some(device) = device {
        let name = cookies::device_name(is_secure);
        let lasting = cookies::DEVICE_KNOWN;
        set.push(cookies::set(name, &device, lasting, is_secure));
    }
    Ok((body, set))
}

/// Answers no failure sooner than [`FLOOR`] after the request: none says by its time how far it came.
pub(super) async fn floored<T>(
    began: Instant,
    result: Result<T, AccountsError>,
) -> Result<T, AccountsError> {
    if result.is_err() {
        tokio::time::sleep_until((began + FLOOR).into()).await;
    }
    result
}
