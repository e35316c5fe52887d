//! From a credential to a token: one login at a time, and never in a storm.
//!
//! A caller that needs a token during a login shares its outcome. After a failure the next
//! attempt waits, twice as long each time and jittered; who asks meanwhile gets the last error at
//! once, so that neither a server that comes back nor our own callers are held up by us.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    backend::{Answer, Granted},
    diagnosis::{Asking, Failure, presentable},
    session::{Identity, Session},
};
use crate::{
    Auth, SecretsError, Vault, VaultFailure,
    backoff::Backoff,
    lease::{Due, LeaseClock},
};

/// Where the server answers who we are.
pub(crate) const LOOKUP: &str = "auth/token/lookup-self";

/// Which login we are at.
pub(crate) struct LoginState {
    present: Option<Arc<Session>>,
    serial: u64,
    backoff: Backoff,
    /// When the last attempt failed, how, and before when there is no other.
    failed: Option<(SecretsError, Instant)>,
    warned_of_end: bool,
}

impl LoginState {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            present: None,
            serial: 0,
            backoff,
            failed: None,
            warned_of_end: false,
        }
    }
}

/// The wrapping token that was unwrapped, and what was in it: such a token is good for one use, so this
/// outlives the lives of the actor. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Unwrapped(Arc<Mutex<Option<(SecretString, SecretString)>>>);

impl Unwrapped {
    fn of(&self, token: &SecretString) -> Option<SecretString> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, secret_id) = kept.as_ref()?;
        (from.expose_secret() == token.expose_secret()).then(|| secret_id.clone())
    }

    fn keep(&self, token: SecretString, secret_id: SecretString) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((token, secret_id));
    }
}

/// The result of a login.
struct Login {
    token: SecretString,
    identity: Identity,
    clock: Option<LeaseClock>,
    ours: bool,
}

impl Vault {
    /// A session that is neither over nor the one that proved `dead`: the present one, or a new login.
    pub(crate) async fn session(
        &self,
        dead: Option<&Arc<Session>>,
    ) -> Result<Arc<Session>, SecretsError> {
        let mut login_state = self.login_state().lock().await;
        let now = Instant::now();
        if let Some(present) = &login_state.present
            && present.is_usable(now)
            && dead.is_none_or(|dead| dead.serial != present.serial)
        {
            return Ok(Arc::clone(present));
        }
        if let Some(dead) = dead {
            dead.lose();
        }
        self.log_in_again(&mut login_state).await
    }

    /// Sees to the token: renews it when that is due, or logs in again. Answers the present session.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`]; the token may be good for a while yet.
    pub(crate) async fn keep_session(&self) -> Result<Arc<Session>, SecretsError> {
        let mut login_state = self.login_state().lock().await;
        let usable = |it: &Arc<Session>| it.is_usable(Instant::now());
        let Some(present) = login_state.present.clone().filter(usable) else {
            return self.log_in_again(&mut login_state).await;
        };
        match present
            .clock()
            .map(|clock| (clock, clock.due(Instant::now())))
        {
            None | Some((_, Due::At(_))) => Ok(present),
            Some((clock, Due::Renew)) => match self.renew_token(&present, clock).await {
                Ok(()) => Ok(present),
                Err(failure) if failure.refusal().is_some_and(|(status, _)| status < 429) => {
                    self.log_in_again(&mut login_state).await
                }
                Err(failure) => Err(SecretsError::Login {
                    source: self
                        .explain(failure, Asking::Login, Some(&present.token))
                        .await,
                }),
            },
            Some((_, Due::Replace | Due::Ended)) => self.log_in_again(&mut login_state).await,
        }
    }

    /// When [`keep_session`](Self::keep_session) has something to do.
    pub(crate) async fn session_due(&self) -> Option<Instant> {
        let login_state = self.login_state().lock().await;
        let present = login_state.present.as_ref()?;
        let failed = login_state
            .failed
            .as_ref()
            .map(|(_, not_before)| *not_before);
        if let Some(not_before) = failed.filter(|at| *at > Instant::now()) {
            return Some(not_before);
        }
        let clock = present.clock()?;
        match clock.due(Instant::now()) {
            Due::At(at) => Some(at),
            _ => Some(Instant::now()),
        }
    }

    /// The present session, if any; sends no request.
    pub(crate) async fn present(&self) -> Option<Arc<Session>> {
        self.login_state().lock().await.present.clone()
    }

    /// Gives the present session up, so that the next request logs in.
    pub(crate) async fn leave(&self) -> Option<Arc<Session>> {
        self.login_state().lock().await.present.take()
    }

    async fn renew_token(&self, present: &Session, clock: LeaseClock) -> Result<(), Failure> {
        let asked = Instant::now();
        let path = "auth/token/renew-self";
        let answer = self
            .call(path, Some(&present.token), Some(json!({})))
            .await?;
        let Some(granted) = answer.auth else {
            return Err(Failure::garbled("the renewal returned no token"));
        };
        let life = std::time::Duration::from_secs(granted.lease_duration);
        present.set_clock(Some(clock.renewed(asked, life, fastrand::f64())));
        debug!(?life, "renewed the Vault token");
        Ok(())
    }

    async fn log_in_again(
        &self,
        login_state: &mut LoginState,
    ) -> Result<Arc<Session>, SecretsError> {
        if let Some((error, not_before)) = &login_state.failed
            && Instant::now() < *not_before
        {
            return Err(error.clone());
        }
        match self.log_in_as_configured().await {
            Ok(login) => {
                login_state.backoff.note(false);
                login_state.failed = None;
                Ok(self.seat(login_state, login))
            }
            Err(source) => {
                login_state.backoff.note(true);
                let error = SecretsError::Login { source };
                let wait = login_state
                    .backoff
                    .wait(fastrand::f64())
                    .unwrap_or_default();
                let wait = error.pause().map_or(wait, |pause| pause.max(wait));
                login_state.failed = Some((error.clone(), Instant::now() + wait));
                Err(error)
            }
        }
    }

    /// Makes what a login brought the present session. The same token as before is the same session,
    /// so that what was made under it is not made again.
    fn seat(&self, login_state: &mut LoginState, login: Login) -> Arc<Session> {
        if let Some(present) = login_state.present.as_ref().filter(|it| {
            it.token.expose_secret() == login.token.expose_secret() && it.is_usable(Instant::now())
        }) {
            let present = Arc::clone(present);
            present.set_clock(login.clock);
            if let Some(left) = login.clock.and_then(|it| it.fixed_rest(Instant::now()))
                && !std::mem::replace(&mut login_state.warned_of_end, true)
            {
                warn!(
                    left_s = left.as_secs(),
                    "the Vault token expires soon and cannot be renewed; set another one"
                );
            }
            return present;
        }
        login_state.serial += 1;
        info!(
            secrets.auth = self.config().auth.name(),
            secrets.identity = login.identity.name,
            secrets.policies = login.identity.policies.join(", "),
            "logged in to Vault"
        );
        let named = (login.token, login.identity);
        let session = Session::new(
            login_state.serial,
            named,
            login.ours,
            login.clock,
            self.outbox(),
        );
        let session = Arc::new(session);
        login_state.present = Some(Arc::clone(&session));
        // The maintainer of leases must obtain others under it.
        self.outbox().ring();
        session
    }

    async fn log_in_as_configured(&self) -> Result<Login, VaultFailure> {
        let auth = &self.config().auth;
        if let Err(failure) = self.bounded(self.backend().reopen()).await {
            return Err(self.explain(failure, Asking::Login, None).await);
        }
        let proof = auth.proof().await?;
        let proof = match (auth, proof) {
            (
                Auth::AppRole {
                    wrapped: true,
                    mount,
                    ..
                },
                Some(token),
            ) => Some(self.unwrapped_secret_id(mount, token).await?),
            (_, proof) => proof,
        };
        let outcome = match (auth, proof.clone()) {
            (Auth::Token(_), Some(token)) => self.look_at(token).await,
            (auth, proof) => {
                let body = auth.body(&proof.unwrap_or_default()).await?;
                self.log_in_at(auth.mount().unwrap_or_default(), body).await
            }
        };
        match outcome {
            Ok(login) => Ok(login),
            Err(failure) => Err(self.explain(failure, Asking::Login, proof.as_ref()).await),
        }
    }

    async fn log_in_at(&self, mount: &str, body: Value) -> Result<Login, Failure> {
        let asked = Instant::now();
        let answer = self
            .call(&format!("auth/{mount}/login"), None, Some(body))
            .await?;
        let Some(Granted {
            client_token,
            policies,
            lease_duration,
            renewable,
        }) = answer
            .auth
            .filter(|granted| !granted.client_token.expose_secret().is_empty())
        else {
            return Err(Failure::garbled("the login returned no token"));
        };
        let looked = self.look_up(&client_token).await;
        let name = looked.ok().and_then(|answer| text(&answer, "display_name"));
        Ok(Login {
            token: client_token,
            identity: Identity {
                name: name.unwrap_or_default(),
                policies,
            },
            clock: clock(asked, lease_duration, renewable),
            ours: true,
        })
    }

    /// A token that we were given: only asks the server what it thinks of it.
    async fn look_at(&self, token: SecretString) -> Result<Login, Failure> {
        let asked = Instant::now();
        let answer = match self.look_up(&token).await {
            Ok(answer) => answer,
            // Known to the server, though not allowed to look at itself.
            Err(Failure::Call(denial)) if denial.is_policy_denial() => Answer::default(),
            Err(failure) => return Err(failure),
        };
        let of = |field: &str| answer.data.as_ref().and_then(|data| data.get(field));
        let policies = of("policies").and_then(Value::as_array);
        let policies = policies.into_iter().flatten().filter_map(Value::as_str);
        let ttl = of("ttl").and_then(Value::as_u64).unwrap_or(0);
        let renewable = of("renewable").and_then(Value::as_bool).unwrap_or(false);
        Ok(Login {
            identity: Identity {
                name: text(&answer, "display_name").unwrap_or_default(),
                policies: policies.map(str::to_owned).collect(),
            },
            token,
            clock: clock(asked, ttl, renewable),
            ours: false,
        })
    }

    /// The secret id in the response that `token` wraps. A wrapping token is good for one use, so the
    /// secret id is kept until another token is given. One that wraps something else is left as it is.
    async fn unwrapped_secret_id(
        &self,
        mount: &str,
        token: SecretString,
    ) -> Result<SecretString, VaultFailure> {
        if let Some(secret_id) = self.unwrapped().of(&token) {
            return Ok(secret_id);
        }
        self.verify_wrapping(mount, &token).await?;
        let unwrapping = self.call("sys/wrapping/unwrap", Some(&token), Some(json!({})));
        let mut data = match unwrapping.await {
            Ok(answer) => answer.data.unwrap_or_default(),
            Err(failure) => {
                return Err(self.explain(failure, Asking::Unwrap, Some(&token)).await);
            }
        };
        let secret_id = match data.get_mut("secret_id").map(Value::take) {
            Some(Value::String(secret_id)) => SecretString::from(secret_id),
            _ => {
                return Err(VaultFailure::NotUnwrapped {
                    detail: "the response has no secret id".to_owned(),
                });
            }
        };
        self.unwrapped().keep(token, secret_id.clone());
        Ok(secret_id)
    }

    /// A thief of a wrapping token can replace it with another of the same content, but cannot choose the path at which
    /// it is created.
    ///
    /// Source: "Response wrapping", documentation of Vault, "Response wrapping token validation".
    async fn verify_wrapping(&self, mount: &str, token: &SecretString) -> Result<(), VaultFailure> {
        let body = json!({ "token": token.expose_secret() });
        let answer = match self.call("sys/wrapping/lookup", None, Some(body)).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explain(failure, Asking::Unwrap, Some(token)).await),
        };
        let Some(path) = text(&answer, "creation_path") else {
            return Err(VaultFailure::BadAnswer {
                detail: "it does not name the path of the wrapping token".to_owned(),
            });
        };
        if makes_secret_ids(&path, mount) {
            return Ok(());
        }
        Err(VaultFailure::WrappedElsewhere {
            path: presentable(&path, Some(token)),
            mount: mount.to_owned(),
        })
    }
}

/// Whether `path` is where the AppRole method at `mount` creates secret ids, of any role.
fn makes_secret_ids(path: &str, mount: &str) -> bool {
    let role = path
        .strip_prefix("auth/")
        .and_then(|rest| rest.strip_prefix(mount))
        .and_then(|rest| rest.strip_prefix("/role/"))
        .and_then(|rest| rest.strip_suffix("/secret-id"));
    role.is_some_and(|role| !role.is_empty() && !role.contains('/'))
}

fn clock(asked: Instant, seconds: u64, renewable: bool) -> Option<LeaseClock> {
    let life = std::time::Duration::from_secs(seconds);
    (seconds > 0).then(|| LeaseClock::leased(asked, life, renewable, fastrand::f64()))
}

fn text(answer: &Answer, field: &str) -> Option<String> {
    let text = answer.data.as_ref()?.get(field)?.as_str()?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
