//! Signing in and out, refreshing.

use std::time::Instant;

use dotmac_platform::{
    audit::SystemActs as _,
    db::types::Id,
    prelude::*,
    routing::{ClientAddress, KeyedLimit, RateLimit, RequestHead, WithHeaders},
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    BODY, CALLS, MINUTE, REFRESHES, SIGN_INS, SWITCHES,
    session::{SessionBody, answer, floored, session, with_cookies},
    user_agent, visible,
};
use crate::{
    AccountsError, cookies,
    metrics::{self, Outcome},
    names::Identifier,
    password::Asker,
    problems::{OF_REFRESH, OF_SESSION, OF_SIGN_IN, OF_SWITCH},
    rules::{
        next_step::{FirstStep, SecondStep, SignedIn},
        refresh::{self, Refreshed},
        sessions::{self, Issued, Mode},
        sign_in::{self, Attempt},
    },
    service::{self, Service},
    store::{
        sessions::{Client, SessionId},
        users::{self, UserRow},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/login", login)
        .problems(OF_SIGN_IN)
        .summary("Sign in by a password")
        .rate_limits(SIGN_INS)
        .body_limit(BODY);
    routes
        .post("/refresh", renew)
        .problems(OF_REFRESH)
        .summary("New tokens for a refresh token")
        .rate_limit(RateLimit::per_network(600, MINUTE))
        .body_limit(BODY);
    routes
        .post("/logout", logout)
        .problems(OF_SESSION)
        .summary("End this session")
        .rate_limit(CALLS);
    routes
        .post("/logout-all", logout_all)
        .problems(OF_SESSION)
        .summary("End all sessions, or all but this one")
        .rate_limit(CALLS);
    routes
        .post("/switch-tenant", switch_tenant)
        .problems(OF_SWITCH)
        .summary("Go on in another of your tenants")
        .rate_limit(SWITCHES)
        .body_limit(BODY);
}

/// How a client holds its session.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionMode {
    /// A browser, by a cookie.
    #[default]
    Cookie,
    /// Anything else, by an access token and a refresh token.
    Token,
}

impl From<SessionMode> for Mode {
    fn from(mode: SessionMode) -> Self {
        match mode {
            SessionMode::Cookie => Self::Cookie,
            SessionMode::Token => Self::Token,
        }
    }
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

/// What a right password leads to: a session, or the second step of the sign-in.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum LoginBody {
    Session(SessionBody),
    SecondFactor(SecondFactorBody),
}

/// The user has a second factor.
#[derive(Serialize, ToSchema)]
pub(super) struct SecondFactorBody {
    mfa: Mfa,
}

/// How the sign-in goes on, at `POST /api/v1/auth/mfa/verify`.
#[derive(Serialize, ToSchema)]
struct Mfa {
    /// Good for five minutes and five tries.
    flow: String,
    /// What may be shown.
    methods: Vec<&'static str>,
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
    let mode = Mode::from(mode);
    if mode == Mode::Cookie {
        // Else another site could sign a browser in to its own account.
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
    let first = signed_in.map_err(AccountsError::of_credentials)?;
    first_step(&on, &head, first).await
}

/// The answer to what a first factor leads to.
pub(super) async fn first_step(
    on: &Service,
    head: &RequestHead,
    first: FirstStep,
) -> Result<WithHeaders<Json<LoginBody>>, AccountsError> {
    let reply = match first {
        FirstStep::Done(signed_in) => {
            let SignedIn {
                issued,
                user,
                device,
            } = *signed_in;
            let session = session(on, head, issued, user, device).await;
            let (body, cookies) = session.map_err(AccountsError::of_credentials)?;
            with_cookies(LoginBody::Session(body), cookies)
        }
        FirstStep::SecondFactor(SecondStep { flow, methods }) => {
            let mfa = Mfa {
                flow: flow.expose_secret().to_owned(),
                methods,
            };
            let body = LoginBody::SecondFactor(SecondFactorBody { mfa });
            with_cookies(body, Vec::new())
        }
    };
    Ok(reply)
}

async fn renew(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    limit: KeyedLimit,
    body: Valid<Renewal>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let token = SecretString::from(body.into_inner().refresh_token);
    let refreshed = refreshed(&on, limit, token).await;
    metrics::refreshed(Outcome::of(&refreshed));
    let (issued, user) = refreshed.map_err(AccountsError::of_credentials)?;
    let answer = answer(&on, &head, *issued, user, None);
    answer.await.map_err(AccountsError::of_credentials)
}

/// The session of a refresh token, gone on.
async fn refreshed(
    on: &Service,
    limit: KeyedLimit,
    token: SecretString,
) -> Result<(Box<Issued>, UserRow), AccountsError> {
    if !refresh::is_well_formed(token.expose_secret()) {
        return Err(AccountsError::TokenInvalid);
    }
    let keys = on.keys.get().await?;
    let service = on.clone();
    let refreshed = on.open_db.transaction("refresh session", async move |tx| {
        let may_go_on = |session: SessionId| -> Result<(), AccountsError> {
            Ok(limit.count(REFRESHES, session.uuid())?)
        };
        let token = token.expose_secret();
        let refreshed = refresh::refresh(tx, &service, &keys, token, may_go_on).await?;
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
        .asked_by(&who)
        .act("log out everywhere", async move |tx| {
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
    let switched = on.asked_by(&who).act("switch tenant", async move |tx| {
        let issued = sessions::switch(tx, &keys, &settings, &changes, session, tenant).await?;
        let user = users::find(tx, user)
            .await?
            .ok_or(AccountsError::SessionEnded)?;
        Ok::<_, AccountsError>(issued.map(|issued| (issued, user)))
    });
    let (issued, user) = switched.await?;
    answer(&on, &head, issued, user, None).await
}

/// A browser forgets the session and what the site left behind.
fn signed_out(on: &Service, head: &RequestHead) -> WithHeaders<NoContent> {
    let is_secure = on.settings.has_secure_cookies(head.is_secure());
    let name = cookies::session_name(is_secure);
    let reply = WithHeaders::new(NoContent)
        .header("cache-control", "no-store")
        .header("clear-site-data", "\"cookies\",\"storage\"");
    match head.cookie(name) {
        Some(_) => reply.header("set-cookie", &cookies::clear(name, is_secure)),
        None => reply,
    }
}
