//! The backend for the crate `hashicorp_vault`, which blocks.
//!
//! Its client panics when it is built, used or dropped where an async runtime runs, so it lives on a
//! thread of its own, which takes one job after another and ends with the backend. What the crate
//! cannot do is refused by [`supports`] before anything starts.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use hashicorp_vault::{
    Error as ClientError,
    client::{EndpointResponse, HttpVerb, VaultClient},
};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroize;

use super::{CallFailure, Login, Reply, SecretBackend};
use crate::secrets::config::{Auth, ConfigError, VaultConfig};

/// The crate's own limit for a request, which cannot be set. Our callers may wait less, and then the
/// thread is busy with a request that nobody waits for, for at most this long.
const FIXED_TIMEOUT: Duration = Duration::from_secs(30);
/// Jobs waiting for the thread; more have to wait for a place.
const QUEUE: usize = 8;

/// Refuses what the crate does not know.
pub(super) fn supports(config: &VaultConfig) -> Result<(), ConfigError> {
    let refuse = |feature| {
        Err(ConfigError::Unsupported {
            client: "hashicorp_vault",
            feature,
        })
    };
    if config.namespace.is_some() {
        return refuse("namespaces");
    }
    if config.ca_cert.is_some() {
        return refuse("a CA certificate of its own");
    }
    if config.timeout > FIXED_TIMEOUT {
        return refuse("a request time-out above 30 s");
    }
    match &config.auth {
        Auth::AppRole { mount, .. } if mount != "approle" => {
            refuse("an AppRole mount other than `approle`")
        }
        _ => Ok(()),
    }
}

/// Speaks to Vault through `hashicorp_vault`.
pub(super) struct HashicorpBackend {
    config: VaultConfig,
    /// The thread's queue, once there is a thread. Dropping it ends the thread.
    worker: Mutex<Option<mpsc::Sender<Job>>>,
}

type Client = VaultClient<()>;
/// Runs on the thread, with the client of the last login.
type Job = Box<dyn FnOnce(&mut Option<Client>) + Send>;

impl HashicorpBackend {
    pub(super) fn new(config: VaultConfig) -> Self {
        Self {
            config,
            worker: Mutex::new(None),
        }
    }

    fn worker(&self) -> io::Result<mpsc::Sender<Job>> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic of the crate ends the thread; the next request gets another, without a login.
        if let Some(queue) = worker.as_ref().filter(|queue| !queue.is_closed()) {
            return Ok(queue.clone());
        }
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("hashicorp_vault".to_owned())
            .spawn(move || {
                let mut client = None;
                while let Some(job) = jobs.blocking_recv() {
                    job(&mut client);
                }
                forget_token(client.take());
            })?;
        Ok(worker.insert(queue).clone())
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<Client>) -> Result<T, CallFailure> + Send + 'static,
    ) -> Result<T, CallFailure> {
        let gone = || CallFailure::Connection("the client's thread ended".to_owned());
        let queue = self
            .worker()
            .map_err(|e| CallFailure::Connection(e.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |client| {
            // A request that nobody waits for any more is not worth the thread's time.
            if !answer.is_closed() {
                drop(answer.send(work(client)));
            }
        });
        queue.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl SecretBackend for HashicorpBackend {
    fn login(&self) -> Reply<'_, Login> {
        let VaultConfig { address, auth, .. } = self.config.clone();
        Box::pin(self.on_thread(move |client| {
            forget_token(client.take());
            match auth {
                Auth::Token(token) => {
                    let fresh = Client::new_no_lookup(address.as_str(), token.expose_secret())
                        .map_err(call_failure)?;
                    let answer = get(&fresh, "auth/token/lookup-self");
                    *client = Some(fresh);
                    match answer {
                        Ok(found) => Ok(Login::from_lookup(&found)),
                        // Known to the server, though not allowed to look at itself.
                        Err(denial) if denial.is_policy_denial() => Ok(Login { expires_in: None }),
                        Err(failure) => Err(failure),
                    }
                }
                Auth::AppRole {
                    role_id, secret_id, ..
                } => {
                    let fresh = Client::new_app_role(
                        address.as_str(),
                        role_id,
                        Some(secret_id.expose_secret()),
                    )
                    .map_err(call_failure)?;
                    let auth = fresh.data.as_ref().and_then(|data| data.auth.as_ref());
                    let life = auth
                        .and_then(|auth| auth.lease_duration.as_ref())
                        .map_or(0, |life| life.0.as_secs());
                    *client = Some(fresh);
                    Ok(Login::expiring_in(life))
                }
            }
        }))
    }

    fn get<'a>(&'a self, path: &'a str) -> Reply<'a, Value> {
        let path = path.to_owned();
        Box::pin(self.on_thread(move |client| match client {
            Some(client) => get(client, &path),
            // The thread that logged in is gone: the session will log in again.
            None => Err(CallFailure::refused(403, r#"{"errors":["no token"]}"#)),
        }))
    }

    fn health(&self) -> Reply<'_, u16> {
        let address = self.config.address.clone();
        Box::pin(self.on_thread(move |_| {
            let anonymous = Client::new_no_lookup(address.as_str(), "").map_err(call_failure)?;
            match get(&anonymous, "sys/health") {
                Err(CallFailure::Refused { status, .. }) => Ok(status),
                // A healthy server's answer has another shape than all the rest.
                Ok(_) | Err(CallFailure::Garbled(_)) => Ok(200),
                Err(failure) => Err(failure),
            }
        }))
    }
}

fn get(client: &Client, path: &str) -> Result<Value, CallFailure> {
    match client
        .call_endpoint::<Value>(HttpVerb::GET, path, None, None)
        .map_err(call_failure)?
    {
        EndpointResponse::VaultResponse(answer) => answer
            .data
            .ok_or_else(|| CallFailure::Garbled("the answer holds no data".to_owned())),
        EndpointResponse::Empty => Err(CallFailure::Garbled("the answer is empty".to_owned())),
    }
}

fn forget_token(client: Option<Client>) {
    if let Some(mut client) = client {
        client.token.zeroize();
    }
}

/// The crate wraps the body of a refusal into its own words; the status is in the response.
fn call_failure(error: ClientError) -> CallFailure {
    match error {
        ClientError::VaultResponse(words, response) => {
            let body = words
                .split_once("error message: `")
                .map_or("", |(_, rest)| rest);
            let body = body
                .trim_end_matches('`')
                .trim_end_matches("Could not read vault response.");
            CallFailure::refused(response.status().as_u16(), body.trim())
        }
        ClientError::Reqwest(error) => connection_failure(&error),
        ClientError::Io(error) => connection_failure(&error),
        // The parser's own text may quote what it could not parse: a secret, perhaps.
        _ => CallFailure::Garbled("it is not the JSON of Vault's API".to_owned()),
    }
}

/// OpenSSL's errors have no type that we could name here; their texts all speak of SSL.
fn connection_failure(mut error: &(dyn std::error::Error + 'static)) -> CallFailure {
    let mut tls = false;
    loop {
        let text = error.to_string();
        tls |= ["SSL", "certificate"]
            .iter()
            .any(|word| text.contains(word));
        match error.source() {
            Some(source) => error = source,
            None if tls => return CallFailure::Tls(text),
            None => return CallFailure::Connection(text),
        }
    }
}
