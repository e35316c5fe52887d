//! Finds the caller of a request: by an access token, an API key, or a browser's cookie.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::constant_time;
use dotmac_platform::{
    access::{
        AuthError, AuthRequest, Authenticator, CredentialScheme, GuardedRoute, PermissionSet,
        PermissionSpec, Principal, PrincipalKind,
    },
    db::types::{Id, Moment},
    module::Module as _,
    routing::ProblemType,
};
use futures_util::future::LocalBoxFuture;

use crate::{
    Accounts, AccountsError, AccountsSettings,
    changes::{Caller, CallerKey, Remembered},
    cookies,
    jwt::{self, Claims, Refusal},
    metrics::{self, Source},
    problems::{self, AMBIGUOUS_CREDENTIALS, changes_something, is_of_signing_in},
    rules::tenant_policy::{self as policy, Lack},
    secret_text::{self, Prefix, sha256},
    service::{self, Service},
    store::{
        ACTIVE, DISABLED, api_keys, bindings,
        bindings::Holder,
        service_accounts, sessions,
        sessions::{By, COOKIE, Found, SessionId},
        tenants::{self, DEFAULT},
        users,
    },
};

/// How often the use of a browser's session is noted.
const TOUCHED_EVERY: Duration = Duration::from_secs(300);

/// In which the requests of an API key are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The authenticator of a program with accounts.
pub(crate) struct AccountsAuthenticator(pub(crate) Service);

/// The credentials of a request.
enum Given<'r> {
    Token(&'r str),
    Key(&'r str),
    Cookie(&'r str),
}

impl<'r> Given<'r> {
    fn read(
        request: &AuthRequest<'r>,
        settings: &AccountsSettings,
    ) -> Result<Option<Self>, AccountsError> {
        let text = |name| request.headers.get(name).map(|value| value.to_str());
        let bearer = match text("authorization") {
            None => None,
            Some(value) => Some(
                value
                    .ok()
                    .and_then(bearer)
                    .ok_or(AccountsError::TokenInvalid)?,
            ),
        };
        let key = match text("x-api-key") {
            None => None,
            Some(value) => Some(value.map_err(|_| AccountsError::TokenInvalid)?),
        };
        let cookie = request.cookie(cookies::session_name(
            settings.has_secure_cookies(request.is_secure),
        ));
        let is_key = |text| {
            secret_text::is_of(Prefix::ServiceKey, text)
                || secret_text::is_of(Prefix::PersonalKey, text)
        };
        match (bearer, key, cookie) {
            (None, None, None) => Ok(None),
            (Some(text), None, None) if is_key(text) => Ok(Some(Self::Key(text))),
            (Some(text), None, None) => Ok(Some(Self::Token(text))),
            (None, Some(text), None) => Ok(Some(Self::Key(text))),
            (None, None, Some(text)) => Ok(Some(Self::Cookie(text))),
            _ => Err(AMBIGUOUS_CREDENTIALS.problem().into()),
        }
    }
}

/// What follows `Bearer`, whose case does not matter (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

impl Authenticator for AccountsAuthenticator {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        Box::pin(async move {
            let Some(given) = Given::read(&request, &self.0.settings)? else {
                return Ok(None);
            };
            let found = self.caller(given, &request).await?;
            let caller = &found.caller;
            let is_of_signing_in = is_of_signing_in(request.method.as_str(), request.path);
            if let Some(lack) = caller.lack.filter(|_| !is_of_signing_in) {
                return Err(AccountsError::from(lack).into());
            }
            let principal = request.principal(caller.identity());
            Ok(Some(match caller.requests_per_minute {
                Some(requests) => principal.limited("api_key", requests, MINUTE),
                None => principal,
            }))
        })
    }

    /// What administrators do needs an authentication that is strong and not too old; so does what reaches beyond one tenant,
    /// whichever module it is of.
    fn confirm(&self, principal: &Principal, permission: PermissionSpec) -> Result<(), AuthError> {
        let is_of_operators = || principal.tenant == DEFAULT && permission.is_for_operators();
        if permission.area() == Accounts::NAME || is_of_operators() {
            service::strong(principal, self.0.settings.admin_acr, service::ADMIN_AGE)?;
        }
        Ok(())
    }

    fn problems(&self, route: &GuardedRoute<'_>) -> Vec<ProblemType> {
        problems::of_guard(route)
    }

    fn schemes(&self) -> Vec<CredentialScheme> {
        vec![
            CredentialScheme::BEARER.described("An access token, or an API key."),
            CredentialScheme::header("api_key", "X-API-Key").described("An API key."),
            CredentialScheme::cookie("session", cookies::session_name(true)).described(
                "A browser's session, for requests of this site. Over plain HTTP its name has no `__Host-`.",
            ),
        ]
    }
}

impl AccountsAuthenticator {
    async fn caller(
        &self,
        given: Given<'_>,
        request: &AuthRequest<'_>,
    ) -> Result<Arc<Remembered>, AccountsError> {
        match given {
            Given::Token(token) => self.by_token(token).await,
            Given::Key(key) => self.by_key(key, request.client).await,
            Given::Cookie(cookie) => {
                if changes_something(request.method.as_str()) {
                    let text = |name| {
                        request
                            .headers
                            .get(name)
                            .and_then(|value| value.to_str().ok())
                    };
                    let public_url = &self.0.settings.public_url;
                    cookies::check_site(text("sec-fetch-site"), text("origin"), public_url)?;
                }
                let hash = secret_text::read(Prefix::Session, cookie)
                    .ok_or(AccountsError::TokenInvalid)?;
                let key = CallerKey::Cookie(hash.clone());
                self.session(key, By::TokenHash(hash)).await
            }
        }
    }

    async fn by_token(&self, token: &str) -> Result<Arc<Remembered>, AccountsError> {
        let claims = self.claims(token).await?;
        let id: SessionId = Id::from_uuid(claims.sid);
        let session = self.session(CallerKey::Session(id), By::Id(id)).await?;
        let caller = &session.caller;
        if caller.principal != claims.sub || caller.tenant.uuid() != claims.tid {
            return Err(AccountsError::TokenInvalid);
        }
        let generation = claims.generation;
        if session.is_first_sight(generation) {
            let confirmed = self
                .0
                .open_db
                .transaction("confirm refresh", async move |tx| {
                    sessions::confirm(tx, id, generation).await
                });
            confirmed.await?;
            session.confirmed(generation);
        }
        Ok(session)
    }

    /// What a token says that we signed and that is not over.
    async fn claims(&self, token: &str) -> Result<Arc<Claims>, AccountsError> {
        let changes = &self.0.changes;
        let hash = sha256(token.as_bytes());
        if let Some(claims) = changes.token(&hash) {
            let is_over = claims.exp <= chrono::Utc::now().timestamp();
            return if is_over {
                Err(AccountsError::TokenExpired)
            } else {
                Ok(claims)
            };
        }
        let read = changes.token_epoch();
        let keys = self.0.keys.to_verify(changes.is_fresh()).await?;
        let (issuer, audience) = (self.0.settings.issuer(), &self.0.settings.audience);
        let verify =
            |keys: &crate::keys::Keys| jwt::verify(token, keys.verifying(), &issuer, audience);
        let verified = match verify(&keys) {
            // Another instance may have made its key just now.
            Err(Refusal::UnknownKey) => verify(&*self.0.keys.get_newer().await?),
            verified => verified,
        };
        let claims = verified.map_err(|refusal| match refusal {
            Refusal::Expired => AccountsError::TokenExpired,
            Refusal::Invalid | Refusal::UnknownKey => AccountsError::TokenInvalid,
        })?;
        let claims = Arc::new(claims);
        changes.remember_token(read, hash, Arc::clone(&claims));
        Ok(claims)
    }

    /// A session that counts, by its id or by the hash of its cookie.
    async fn session(&self, key: CallerKey, by: By) -> Result<Arc<Remembered>, AccountsError> {
        let changes = &self.0.changes;
        if let Some(remembered) = changes.caller(&key) {
            metrics::looked_up(Source::Memory);
            return Ok(remembered);
        }
        metrics::looked_up(Source::Database);
        let read = changes.epoch(&key);
        let is_cookie = matches!(by, By::TokenHash(_));
        let found = self.0.open_db.read("read session", async move |c| {
            let Some(found) = sessions::find(c, by).await? else {
                return Ok(None);
            };
            let (tenant, user) = (found.session.tenant_id, found.session.user_id);
            let (grants, end) = bindings::grants_with_end(c, tenant, Holder::User(user)).await?;
            let lack = policy::lack(c, &found.session, found.mfa_required).await?;
            Ok::<_, AccountsError>(Some((found, grants, end, lack)))
        });
        let (found, grants, end, lack) = found.await?.ok_or(AccountsError::SessionEnded)?;
        let now = Moment::now();
        if !found.is_live(now) || (found.session.kind == COOKIE) != is_cookie {
            return Err(AccountsError::SessionEnded);
        }
        if is_cookie && found.session.last_seen_at + TOUCHED_EVERY < now {
            let (id, idle_until) = (found.session.id, now + self.0.settings.session_idle);
            let touched = self
                .0
                .open_db
                .transaction("touch session", async move |tx| {
                    sessions::touch(tx, id, idle_until).await
                });
            touched.await?;
        }
        let permissions = service::permissions(found.session.tenant_id, &grants);
        Ok(changes.remember(read, key, remembered(&found, permissions, end, lack)))
    }

    async fn by_key(
        &self,
        text: &str,
        client: Option<IpAddr>,
    ) -> Result<Arc<Remembered>, AccountsError> {
        let prefix = [Prefix::ServiceKey, Prefix::PersonalKey]
            .into_iter()
            .find(|prefix| secret_text::is_of(*prefix, text))
            .ok_or(AccountsError::TokenInvalid)?;
        let given = secret_text::read_pair(prefix, text).ok_or(AccountsError::TokenInvalid)?;
        let key = CallerKey::ApiKey(given.public_id.to_owned(), given.hash.clone());
        let remembered = match self.0.changes.caller(&key) {
            Some(remembered) => {
                metrics::looked_up(Source::Memory);
                remembered
            }
            None => {
                metrics::looked_up(Source::Database);
                let read = self.0.changes.epoch(&key);
                let is_personal = prefix == Prefix::PersonalKey;
                let caller = self
                    .key_caller(given.public_id, given.hash, is_personal)
                    .await?;
                let remembered = Remembered::new(caller, 0);
                self.0.changes.remember(read, key, remembered)
            }
        };
        let caller = &remembered.caller;
        let is_near = caller.cidrs.is_empty()
            || client.is_some_and(|client| {
                let client = client.to_canonical();
                caller.cidrs.iter().any(|network| network.contains(&client))
            });
        if !is_near {
            return Err(AccountsError::TokenInvalid);
        }
        self.0.uses.note(Id::from_uuid(caller.by), caller.is_next);
        Ok(remembered)
    }

    async fn key_caller(
        &self,
        public_id: &str,
        hash: Vec<u8>,
        is_personal: bool,
    ) -> Result<Caller, AccountsError> {
        let public_id = public_id.to_owned();
        let found = self.0.open_db.read("read API key", async move |c| {
            let Some(row) = api_keys::find_public(c, &public_id).await? else {
                return Ok(None);
            };
            let Some(holder) = row.holder() else {
                return Ok(None);
            };
            let is_tenant_active = tenants::find(c, row.tenant_id)
                .await?
                .is_some_and(|it| it.status == ACTIVE);
            let status = match holder {
                Holder::User(id) => {
                    let is_member = users::is_member(c, row.tenant_id, id).await?;
                    let user = users::find(c, id).await?.filter(users::UserRow::is_active);
                    user.filter(|_| is_member).map(|_| ACTIVE.to_owned())
                }
                Holder::Service(id) => service_accounts::status_in(c, row.tenant_id, id).await?,
            };
            let is_active =
                is_tenant_active && status.unwrap_or_else(|| DISABLED.to_owned()) == ACTIVE;
            let (grants, end) = bindings::grants_with_end(c, row.tenant_id, holder).await?;
            Ok::<_, AccountsError>(is_active.then_some((row, holder, grants, end)))
        });
        let (row, holder, grants, end) = found.await?.ok_or(AccountsError::TokenInvalid)?;
        let now = Moment::now();
        let is = |stored: &[u8]| constant_time::verify_slices_are_equal(stored, &hash).is_ok();
        let is_next = row.next_hash.as_deref().is_some_and(is);
        let is_former = is(&row.hash)
            && (row.next_hash.is_none() || row.hash_until.is_some_and(|until| until > now));
        let kind = match holder {
            Holder::User(_) => PrincipalKind::Key,
            Holder::Service(_) => PrincipalKind::Service,
        };
        let is_over = row.expires_at.is_some_and(|at| at <= now) || row.revoked_at.is_some();
        if !(is_next || is_former) || is_over || (kind == PrincipalKind::Key) != is_personal {
            return Err(AccountsError::TokenInvalid);
        }
        let mut scopes = PermissionSet::default();
        for scope in &row.rules.0.scopes {
            scopes.grant(scope);
        }
        let ends = [
            end,
            row.expires_at,
            row.hash_until
                .filter(|_| !is_next && row.next_hash.is_some()),
        ];
        Ok(Caller {
            principal: holder.uuid(),
            kind,
            tenant: row.tenant_id,
            permissions: scopes.intersection(&service::permissions(row.tenant_id, &grants)),
            acr: 1,
            authenticated_at: now,
            by: row.id.uuid(),
            cidrs: row.rules.0.cidrs,
            until: ends.into_iter().flatten().min().unwrap_or(Moment::LAST),
            is_next,
            lack: None,
            requests_per_minute: row.rules.0.requests_per_minute,
        })
    }
}

fn remembered(
    found: &Found,
    permissions: PermissionSet,
    end: Option<Moment>,
    lack: Option<Lack>,
) -> Remembered {
    let session = &found.session;
    let until = session.idle_until.min(session.expires_at);
    let caller = Caller {
        principal: session.user_id.uuid(),
        kind: PrincipalKind::User,
        tenant: session.tenant_id,
        permissions,
        acr: u8::try_from(session.acr).unwrap_or(0),
        authenticated_at: session.auth_time,
        by: session.id.uuid(),
        cidrs: Vec::new(),
        until: end.map_or(until, |end| until.min(end)),
        is_next: false,
        lack,
        requests_per_minute: None,
    };
    Remembered::new(caller, found.confirmed_gen.unwrap_or(0))
}
