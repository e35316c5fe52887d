//! Signing in and out, refreshing.

use std::time::{Duration, Instant};

use dotmac_platform::{
    db::types::{Id, Moment},
    prelude::*,
    routing::{ClientAddress, Noted, RequestHead, WithHeaders},
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BODY, CALLS, LINKS, MINUTE, SIGN_INS, SWITCHES, WIDE_SIGN_INS, user_agent, visible};
use crate::{
    AccountsError, cookies,
    metrics::{self, Outcome},
    names::Identifier,
    password::Asker,
    rules::{
        refresh,
        refresh::Refreshed,
        sessions,
        sessions::{Issued, Mode, Secret},
        sign_in,
        sign_in::{Attempt, FirstStep, SignedIn},
    },
    service::{self, Service},
    store::{sessions::Client, tenants, users, users::UserRow},
};

/// Refusals of what an attacker may guess are answered this long after the request, whatever they took: the time tells
/// nothing.
const FLOOR: Duration = Duration::from_millis(400);

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/login", login)
        .summary("Sign in by a password")
        .rate_limit(SIGN_INS)
        .rate_limit(WIDE_SIGN_INS)
        .body_limit(BODY);
    routes
        .post("/refresh", renew)
        .summary("New tokens for a refresh token")
        .rate_limit(dotmac_platform::routing::RateLimit::per_network(
            600, MINUTE,
        ))
        .body_limit(BODY);
    routes
        .post("/logout", logout)
        .summary("End this session")
        .rate_limit(CALLS);
    routes
        .post("/logout-all", logout_all)
        .summary("End all sessions, or all but this one")
        .rate_limit(CALLS);
    routes
        .post("/switch-tenant", switch_tenant)
        .summary("Go on in another of your tenants")
        .rate_limit(SWITCHES)
        .body_limit(BODY);
    routes
        .post("/register", register)
        .summary("Make an account; closed")
        .rate_limit(LINKS)
        .body_limit(BODY);
}

/// How a client holds its session.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SessionMode {
    /// A browser, by a cookie.
    Cookie,
    /// Anything else, by an access token and a refresh token.
    Token,
}

/// Who signs in.
#[derive(Deserialize, Validate, ToSchema)]
struct Login {
    /// E-mail address or user name.
    #[garde(length(bytes, min = 1, max = 320))]
    identifier: String,
    /// The password.
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    password: String,
    /// How the session is held.
    #[garde(skip)]
    mode: SessionMode,
    /// What the list of sessions calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    device_name: Option<String>,
}

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

/// What a right password leads to: a session, or the second step of the sign-in.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum LoginBody {
    Session(SessionBody),
    SecondFactor(SecondFactorBody),
}

/// The user has a second factor.
#[derive(Serialize, ToSchema)]
struct SecondFactorBody {
    mfa: Mfa,
}

/// How the sign-in goes on, at `POST /api/v1/auth/mfa/verify`.
#[derive(Serialize, ToSchema)]
struct Mfa {
    /// Good for five minutes and five tries.
    flow: String,
    /// What may be shown.
    methods: [&'static str; 2],
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

/// A refresh token.
#[derive(Deserialize, Validate, ToSchema)]
struct Renewal {
    /// As the last answer gave it.
    #[garde(length(bytes, min = 1, max = 4096))]
    refresh_token: String,
}

/// Which sessions end.
#[derive(Deserialize, Validate, ToSchema)]
struct LogoutAll {
    /// Whether this session goes on.
    #[serde(default)]
    #[garde(skip)]
    except_current: bool,
}

/// Where to go on.
#[derive(Deserialize, Validate, ToSchema)]
struct SwitchTenant {
    /// One of `GET /api/v1/tenants`.
    #[garde(skip)]
    tenant_id: Uuid,
}

/// An account to be.
#[derive(Deserialize, Validate, ToSchema)]
struct Registration {
    #[garde(length(bytes, min = 1, max = 320))]
    email: String,
    #[serde(default)]
    #[garde(inner(length(bytes, max = 1024)))]
    password: Option<String>,
    #[serde(default)]
    #[garde(inner(length(bytes, max = 64)))]
    username: Option<String>,
    #[serde(default)]
    #[garde(inner(length(chars, max = 200)))]
    full_name: Option<String>,
}

async fn login(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    body: Valid<Login>,
) -> Result<WithHeaders<Json<LoginBody>>, AccountsError> {
    let began = Instant::now();
    let Login {
        identifier,
        password,
        mode,
        device_name,
    } = body.into_inner();
    let mode = match mode {
        SessionMode::Token => Mode::Token,
        SessionMode::Cookie => Mode::Cookie,
    };
    if mode == Mode::Cookie {
        // Else another site could sign a browser in to an account of its own.
        cookies::check_sign_in(&head, &on.settings.public_url)?;
    }
    let network = service::network(from.0);
    let attempt = Attempt {
        identifier: Identifier::read(&identifier),
        password: SecretString::from(password),
        device: head
            .cookie(cookies::device_name(
                on.settings.has_secure_cookies(head.is_secure()),
            ))
            .map(str::to_owned),
        asker: Asker {
            network: Some(network),
            is_known: false,
        },
        client: Client {
            device_name,
            network: Some(network.to_string()),
            user_agent: user_agent(&head),
        },
        mode,
    };
    let signed_in = floored(began, sign_in::sign_in(&on, attempt).await).await;
    let reply = match signed_in.map_err(AccountsError::of_credentials)? {
        FirstStep::Done(signed_in) => {
            let SignedIn {
                issued,
                user,
                device,
            } = *signed_in;
            let session = session(&on, &head, issued, user, device).await;
            let (body, cookies) = session.map_err(AccountsError::of_credentials)?;
            with_cookies(LoginBody::Session(body), cookies)
        }
        FirstStep::SecondFactor(flow) => {
            let mfa = Mfa {
                flow: flow.expose_secret().to_owned(),
                methods: ["totp", "recovery_code"],
            };
            let body = LoginBody::SecondFactor(SecondFactorBody { mfa });
            with_cookies(body, Vec::new())
        }
    };
    Ok(reply)
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

fn with_cookies<T>(body: T, cookies: Vec<String>) -> WithHeaders<Json<T>> {
    let reply = WithHeaders::new(Json(body)).header("cache-control", "no-store");
    cookies
        .iter()
        .fold(reply, |reply, cookie| reply.header("set-cookie", cookie))
}

/// The session and the cookies of a browser.
async fn session(
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

async fn renew(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    body: Valid<Renewal>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let token = SecretString::from(body.into_inner().refresh_token);
    let refreshed = refreshed(&on, token).await;
    metrics::refreshed(Outcome::of(&refreshed));
    let (issued, user) = refreshed.map_err(AccountsError::of_credentials)?;
    let answer = answer(&on, &head, *issued, user, None);
    answer.await.map_err(AccountsError::of_credentials)
}

/// The session of a refresh token, gone on.
async fn refreshed(
    on: &Service,
    token: SecretString,
) -> Result<(Box<Issued>, UserRow), AccountsError> {
    if !refresh::is_well_formed(token.expose_secret()) {
        return Err(AccountsError::TokenInvalid);
    }
    let keys = on.keys.get().await?;
    let (settings, changes) = (on.settings.clone(), on.changes.clone());
    let refreshed = on.open_db.transaction("refresh session", async move |tx| {
        let refreshed =
            refresh::refresh(tx, &keys, &settings, &changes, token.expose_secret()).await?;
        let Refreshed::Issued(issued) = refreshed else {
            return Ok::<_, AccountsError>(None);
        };
        let user = users::find(tx, issued.session.user_id)
            .await?
            .ok_or(AccountsError::SessionEnded)?;
        Ok(Some((issued, user)))
    });
    refreshed.await?.ok_or(AccountsError::RefreshReused)
}

async fn logout(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
) -> Result<WithHeaders<NoContent>, AccountsError> {
    service::person(&who)?;
    let id = who.session.ok_or(AccountsError::SessionEnded)?;
    let changes = on.changes.clone();
    let ended = on
        .db
        .tenant(&who.scope())
        .transaction("log out", async move |tx| {
            sessions::end_by_id(tx, &changes, Id::from_uuid(id), "logout").await
        });
    ended.await?;
    Ok(signed_out(&on, &head))
}

async fn logout_all(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
    body: Valid<LogoutAll>,
) -> Result<WithHeaders<NoContent>, AccountsError> {
    service::person(&who)?;
    let session = who.session.ok_or(AccountsError::SessionEnded)?;
    let kept = body.except_current.then(|| Id::from_uuid(session));
    let (changes, user) = (on.changes.clone(), Id::from_uuid(who.id));
    // Sessions of the user in other tenants end as well.
    let ended = on
        .open_db
        .transaction("log out everywhere", async move |tx| {
            sessions::end_all(tx, &changes, user, kept, "logout_all").await
        });
    ended.await?;
    Ok(match kept {
        Some(_) => WithHeaders::new(NoContent),
        None => signed_out(&on, &head),
    })
}

async fn switch_tenant(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
    body: Valid<SwitchTenant>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    service::person(&who)?;
    let keys = on.keys.get().await?;
    let session = Id::from_uuid(who.session.ok_or(AccountsError::SessionEnded)?);
    let (user, tenant) = (Id::from_uuid(who.id), Id::from_uuid(body.tenant_id));
    let (settings, changes) = (on.settings.clone(), on.changes.clone());
    let switched = on.open_db.transaction("switch tenant", async move |tx| {
        let issued = sessions::switch(tx, &keys, &settings, &changes, session, tenant).await?;
        let user = users::find(tx, user)
            .await?
            .ok_or(AccountsError::SessionEnded)?;
        Ok::<_, AccountsError>((issued, user))
    });
    let (issued, user) = switched.await?;
    answer(&on, &head, issued, user, None).await
}

/// The browser forgets the session and what the site left behind.
fn signed_out(on: &Service, head: &RequestHead) -> WithHeaders<NoContent> {
    let is_secure = on.settings.has_secure_cookies(head.is_secure());
    let name = cookies::session_name(is_secure);
    let reply = WithHeaders::new(NoContent).header("cache-control", "no-store");
    match head.cookie(name) {
        Some(_) => reply
            .header("clear-site-data", "\"cookies\", \"storage\"")
            .header("set-cookie", &cookies::clear(name, is_secure)),
        None => reply,
    }
}

/// The same for every address: it says nothing about who has an account.
async fn register(_: Public, _: Valid<Registration>) -> Result<Noted, AccountsError> {
    Err(AccountsError::RegistrationClosed)
}

/// Answers refusals of what may be guessed no sooner than [`FLOOR`] after the request.
pub(super) async fn floored<T>(
    began: Instant,
    result: Result<T, AccountsError>,
) -> Result<T, AccountsError> {
    if result
        .as_ref()
        .is_err_and(AccountsError::is_slow_on_purpose)
    {
        tokio::time::sleep_until((began + FLOOR).into()).await;
    }
    result
}
