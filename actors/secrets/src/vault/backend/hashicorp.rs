//! The backend for the crate `hashicorp_vault`, which blocks.
//!
//! Its client panics when it is built, used or dropped where an async runtime runs, so it lives on a
//! thread of its own, which takes one job after another and ends with the backend. What the crate
//! cannot do is refused by [`supports`] before anything starts; what it does less well than the default client -
//! it reads answers of any size, and accepts any answer with a status of Vault's health endpoint - docs/secrets.md
//! says.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use hashicorp_vault::{
    Error as ClientError,
    client::{EndpointResponse, HttpVerb, TokenData, VaultClient, VaultDuration},
};
use reqwest_011::{blocking, redirect};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroize;

use super::{Answer, CallFailure, Granted, Reply, Request, SecretBackend, written};
use crate::{
    Auth,
    config::{ConfigError, VaultConfig},
};

/// The longest that a request may take. A caller may wait less; then the thread is busy with an abandoned request for
/// at most this time.
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
        Auth::Certificate { .. } => refuse("a client certificate"),
        _ => Ok(()),
    }
}

/// Speaks to Vault through `hashicorp_vault`.
pub(super) struct HashicorpBackend {
    config: VaultConfig,
    /// The thread's queue, once there is a thread. Dropping it ends the thread.
    worker: Mutex<Option<mpsc::Sender<Job>>>,
}

type Client = VaultClient<TokenData>;
/// Runs on the thread, with its client, which holds a token only during a request.
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
        // A panic of the crate ends the thread; the next request gets another.
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
            // An abandoned request is skipped.
            if !answer.is_closed() {
                drop(answer.send(work(client)));
            }
        });
        queue.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl SecretBackend for HashicorpBackend {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        let address = self.config.address.clone();
        let Request { path, token, body } = request;
        let (path, token) = (path.to_owned(), token.cloned().unwrap_or_default());
        let body = body.map(written);
        Box::pin(self.on_thread(move |client| {
            // One client for all requests: building one loads the system's certificates.
            let client = match client {
                Some(client) => client,
                None => client.insert(open(&address)?),
            };
            token.expose_secret().clone_into(&mut client.token);
            let answer = send(client, &path, body.as_ref().map(|body| body.as_str()));
            client.token.zeroize();
            answer
        }))
    }

    fn health(&self) -> Reply<'_, u16> {
        Box::pin(async {
            let request = Request {
                path: "sys/health",
                token: None,
                body: None,
            };
            match self.send(request).await {
                Err(CallFailure::Refused { status, .. }) => Ok(status),
                // A healthy server's answer has another shape than all the rest.
                Ok(_) | Err(CallFailure::Garbled(_)) => Ok(200),
                Err(failure) => Err(failure),
            }
        })
    }

    /// The crate has no certificates of ours to read.
    fn reopen(&self) -> Reply<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A client that sends a credential to no other host than the one at `address`: left to itself, the crate follows
/// redirects to anywhere and uses the proxies of the environment. It takes an HTTP client of ours only together
/// with a token that it can look up; so it is given that answer here, by a listener that lives for this one
/// question. No credential is in either.
fn open(address: &str) -> Result<Client, CallFailure> {
    let failed = |error: io::Error| CallFailure::Connection(error.to_string());
    let http = blocking::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(FIXED_TIMEOUT)
        .build()
        .map_err(|error| connection_failure(&error))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let asked = listener.local_addr().map_err(failed)?;
    let answering = thread::Builder::new()
        .name("hashicorp_vault".to_owned())
        .spawn(move || answer_lookup(&listener))
        .map_err(failed)?;
    let opened = Client::new_from_reqwest(format!("http://{asked}").as_str(), "", http);
    // If it has not asked, no other client does.
    drop(TcpStream::connect(asked));
    answering.join().ok();
    let mut client = opened.map_err(call_failure)?;
    client.host = address
        .parse()
        .map_err(|_| CallFailure::Connection("its address is no URL".to_owned()))?;
    Ok(client)
}

/// Answers one question with all that the crate wants to know of a token.
fn answer_lookup(listener: &TcpListener) -> io::Result<()> {
    const TOKEN: &str = r#"{"request_id":"","data":{"creation_time":0,"display_name":"","id":"","num_uses":0,"orphan":true,"path":"","policies":[],"ttl":0}}"#;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 && stream.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    let length = TOKEN.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{TOKEN}"
    )
}

fn send(client: &Client, path: &str, body: Option<&str>) -> Result<Answer, CallFailure> {
    let verb = match body {
        Some(_) => HttpVerb::POST,
        None => HttpVerb::GET,
    };
    let answer = client
        .call_endpoint::<Value>(verb, path, None, body)
        .map_err(call_failure)?;
    let EndpointResponse::VaultResponse(answer) = answer else {
        return Ok(Answer::default());
    };
    let seconds = |life: Option<VaultDuration>| life.map_or(0, |life| life.0.as_secs());
    Ok(Answer {
        data: answer.data,
        lease_id: answer.lease_id.unwrap_or_default(),
        lease_duration: seconds(answer.lease_duration),
        renewable: answer.renewable.unwrap_or_default(),
        auth: answer.auth.map(|granted| Granted {
            client_token: granted.client_token.into(),
            policies: granted.policies,
            lease_duration: seconds(granted.lease_duration),
            renewable: granted.renewable,
        }),
    })
}

/// The crate wraps the body of a refusal into its own words; the status is in the response.
fn call_failure(error: ClientError) -> CallFailure {
    match error {
        ClientError::VaultResponse(_, response) if response.status().is_redirection() => {
            let to = response.headers().get("location");
            let to = to.and_then(|it| it.to_str().ok());
            match to.and_then(|to| response.url().join(to).ok()) {
                Some(to) => CallFailure::redirected(&to),
                None => CallFailure::not_vault(),
            }
        }
        ClientError::VaultResponse(words, response) => {
            let body = words
                .split_once("error message: `")
                .map_or("", |(_, rest)| rest);
            let body = body
                .trim_end_matches('`')
                .trim_end_matches("Could not read vault response.");
            let pause = response.headers().get("retry-after");
            let pause = pause.and_then(|it| it.to_str().ok());
            CallFailure::refused(response.status().as_u16(), body.trim(), pause)
        }
        ClientError::Reqwest(error) => connection_failure(&error),
        ClientError::Io(error) => connection_failure(&error),
        // The parser's own text may quote what it could not parse: a secret, perhaps.
        _ => CallFailure::not_vault(),
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
