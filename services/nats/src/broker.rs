//! NATS JetStream as a broker of events.

use std::{io, time::Duration};

use async_nats::{Client, ConnectOptions, HeaderMap, jetstream};
use dotmac_platform::{
    events::{Broker, HandlerError, NotDurable, StoredEvent},
    secrets::SecretWatch,
};
use secrecy::ExposeSecret as _;
use url::Url;

use crate::{NatsSettings, durability::shortcomings};

/// The longest wait for a connection, and for what is known of the stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The longest wait for an acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
/// JetStream recognises an event that it has already by this header.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The credentials for the server; each may be unset.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) token: SecretWatch,
    pub(crate) username: SecretWatch,
    pub(crate) password: SecretWatch,
    /// A credentials file, or the seed of an nkey.
    pub(crate) signed: SecretWatch,
}

/// A stream, over one connection. It is opened on demand, and again after each error, with the current secrets.
pub(crate) struct JetStream {
    url: Url,
    settings: NatsSettings,
    credentials: Credentials,
    client: Option<Client>,
}

impl JetStream {
    pub(crate) fn new(url: Url, settings: NatsSettings, credentials: Credentials) -> Self {
        Self {
            url,
            settings,
            credentials,
            client: None,
        }
    }

    /// The output of `check --connect`.
    pub(crate) async fn describe(&mut self) -> Result<String, String> {
        let stream = self.settings.stream.clone();
        match self.inspect().await {
            Ok(None) => Ok(format!(
                "the stream `{stream}` stores acknowledged events durably"
            )),
            Ok(Some(found)) => Ok(format!("the stream may lose events: {found}")),
            // It names its causes itself.
            Err(error) => Err(error.to_string()),
        }
    }

    fn options(&self) -> io::Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name("dotmac")
            .connection_timeout(ANSWER_WITHIN)
            .request_timeout(Some(ANSWER_WITHIN))
            // A connection that is lost is dropped, and another one opened. It must not go on for itself meanwhile.
            .max_reconnects(1_usize)
            .require_tls(self.url.scheme() == "tls");
        if let Some(file) = &self.settings.ca_cert {
            options = options.add_root_certificates(file.clone());
        }
        if let Some(token) = self.credentials.token.get() {
            options = options.token(token.expose_secret().to_owned());
        }
        let (username, password) = (
            self.credentials.username.get(),
            self.credentials.password.get(),
        );
        if let (Some(username), Some(password)) = (username, password) {
            let (username, password) = (username.expose_secret(), password.expose_secret());
            options = options.user_and_password(username.to_owned(), password.to_owned());
        }
        match self.credentials.signed.get() {
            Some(signed) => with_signed(options, signed.expose_secret()),
            None => Ok(options),
        }
    }

    async fn context(&mut self, within: Duration) -> Result<jetstream::Context, HandlerError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = self.options()?.connect(self.url.as_str()).await?;
                self.client.insert(client).clone()
            }
        };
        let mut context = jetstream::new(client);
        context.set_timeout(within);
        Ok(context)
    }

    fn subject(&self, event: &StoredEvent) -> String {
        let tenant = event.tenant.map(|tenant| tenant.to_string());
        let tenant = tenant.as_deref().unwrap_or("system");
        format!("{}.{tenant}.{}", self.settings.subject, event.kind)
    }

    async fn inspect(&mut self) -> Result<NotDurable, HandlerError> {
        let context = self.context(ANSWER_WITHIN).await?;
        let name = &self.settings.stream;
        let stream = context.get_stream(name).await;
        let stream = stream.map_err(|error| format!("the stream `{name}`: {error}"))?;
        let (config, replicas) = (&stream.cached_info().config, self.settings.replicas);
        let found = shortcomings(config, replicas);
        Ok(found.map(|found| format!("stream `{name}`: {found}")))
    }

    async fn send(&mut self, events: Vec<StoredEvent>) -> Result<(), HandlerError> {
        let context = self.context(ACKNOWLEDGED_WITHIN).await?;
        let mut acknowledgements = Vec::with_capacity(events.len());
        for event in events {
            let (subject, id) = (self.subject(&event), event.id.to_string());
            let mut headers = HeaderMap::new();
            headers.insert(MESSAGE_ID, id.as_str());
            headers.insert("Content-Type", "application/cloudevents+json");
            let body = serde_json::to_vec(&event.cloud_event())?;
            let sent = context.publish_with_headers(subject, headers, body.into());
            acknowledgements.push(sent.await?);
        }
        for acknowledgement in acknowledgements {
            let kept = acknowledgement.await?;
            if kept.stream != self.settings.stream {
                let text = format!(
                    "the stream `{}` takes the subjects of the stream `{}`",
                    kept.stream, self.settings.stream
                );
                return Err(text.into());
            }
        }
        Ok(())
    }
}

/// `options` with what signs the server's challenge: a user's JWT and seed, as in a credentials file, or a seed alone.
fn with_signed(options: ConnectOptions, signed: &str) -> io::Result<ConnectOptions> {
    match signed.trim() {
        // What reads the file wants the end of its last line, which settings take away.
        text if text.contains("-----") => options.credentials(&format!("{text}\n")),
        seed => Ok(options.nkey(seed.to_owned())),
    }
}

impl Broker for JetStream {
    async fn check(&mut self) -> Result<NotDurable, HandlerError> {
        let found = self.inspect().await;
        if found.is_err() {
            self.client = None;
        }
        found
    }

    async fn publish(&mut self, events: Vec<StoredEvent>) -> Result<(), HandlerError> {
        let sent = self.send(events).await;
        if sent.is_err() {
            self.client = None;
        }
        sent
    }
}
