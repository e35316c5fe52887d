//! The relay as the rest of the service knows it.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_platform::{mail::EmailAddress, secrets::SecretWatch};
use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        client::{Certificate, TlsParameters},
        extension::ClientId,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::{
    pool::{SessionPlace, SessionPool},
    reply::{Fault, Reply, Stage},
    session::{Opening, Session},
    settings::{SmtpSettings, SmtpTls},
};

/// A mail that was taken says for so long that the relay can be used.
const KNOWN: Duration = Duration::from_secs(60);

/// User name and password.
type Credentials = (SecretString, SecretString);

/// The way to the relay. Clones are the same.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Inner>);

struct Inner {
    opening: Opening,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    bounces: Option<Address>,
    username: SecretWatch,
    password: SecretWatch,
    pool: SessionPool,
    /// The credentials that the open connections have.
    credentials: Mutex<Option<Credentials>>,
    began: Instant,
    /// When it last took a mail, in milliseconds since `began`; 0 for never.
    good_at: AtomicU64,
    /// Why it could not be used when that was last asked; empty while it can.
    known_fault: std::sync::Mutex<Option<&'static str>>,
}

/// Sender and recipient of a mail, as relays see them.
pub(crate) struct Envelope {
    sender: Address,
    to: Address,
}

impl Envelope {
    pub(crate) const fn new(sender: Address, to: Address) -> Self {
        Self { sender, to }
    }
}

/// A mail under way: the relay has taken sender and recipient, and waits for the content.
pub(crate) struct Begun {
    session: Session,
    relay: Relay,
    place: SessionPlace,
}

impl Relay {
    /// The relay of the settings; `None` without one.
    pub(super) fn new(
        settings: &SmtpSettings,
        username: SecretWatch,
        password: SecretWatch,
    ) -> Result<Option<Self>, String> {
        let Some(host) = settings.host.as_ref().map(|it| it.to_string()) else {
            return Ok(None);
        };
        let from = settings
            .from_address
            .as_deref()
            .and_then(EmailAddress::parse);
        let from = from.ok_or("DOTMAC_SMTP_FROM_ADDRESS is not an address")?;
        let hello = ClientId::Domain(from.domain().to_owned());
        let from = mailbox(&from, settings.from_name.clone())?;
        let reply_to = settings.reply_to.as_deref().and_then(EmailAddress::parse);
        let reply_to = reply_to.map(|it| mailbox(&it, None)).transpose()?;
        let bounces = settings.bounce_address.as_deref();
        let bounces = bounces.and_then(EmailAddress::parse);
        let bounces = bounces.map(|it| mailbox(&it, None)).transpose()?;
        let parameters = match settings.tls {
            SmtpTls::None => None,
            SmtpTls::StartTls | SmtpTls::Tls => Some(tls(&host, settings)?),
        };
        Ok(Some(Self(Arc::new(Inner {
            opening: Opening {
                host,
                port: settings.port,
                tls: settings.tls,
                parameters,
                hello,
                timeout: settings.timeout,
            },
            from,
            reply_to,
            bounces: bounces.map(|it| it.email),
            username,
            password,
            pool: SessionPool::new(settings.connections),
            credentials: Mutex::new(None),
            began: Instant::now(),
            good_at: AtomicU64::new(0),
            known_fault: std::sync::Mutex::default(),
        }))))
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.0.opening.host, self.0.opening.port)
    }

    /// The sender of mail.
    pub(crate) fn from(&self) -> &Mailbox {
        &self.0.from
    }

    /// The address for answers.
    pub(crate) fn reply_to(&self) -> Option<&Mailbox> {
        self.0.reply_to.as_ref()
    }

    /// Whether reports of failures come back to their own addresses.
    pub(crate) fn takes_bounces(&self) -> bool {
        self.0.bounces.is_some()
    }

    /// The address that reports of a mail's failure go to: that of bounces with `token` in it, or the one that mail comes from.
    ///
    /// # Errors
    ///
    /// It is no address.
    pub(crate) fn sender(&self, token: Option<&str>) -> Result<Address, String> {
        let (Some(bounces), Some(token)) = (&self.0.bounces, token) else {
            return Ok(self.0.from.email.clone());
        };
        let user = format!("{}+{token}", bounces.user());
        Address::new(user, bounces.domain()).map_err(|error| error.to_string())
    }

    /// Whether it took a mail a moment ago.
    pub(super) fn is_known_good(&self) -> bool {
        let good_at = self.0.good_at.load(Relaxed);
        let now = millis(self.0.began.elapsed());
        good_at > 0 && now.saturating_sub(good_at) < millis(KNOWN)
    }

    /// Whether it is news that it cannot be used for this reason, or can.
    pub(super) fn is_news(&self, fault: Option<&'static str>) -> bool {
        let mut known = self
            .0
            .known_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, fault) != fault
    }

    /// Opens a connection up to `AUTH` and closes it again; the relay's name.
    pub(super) async fn probe(&self) -> Result<String, Fault> {
        let session = self.open().await?;
        let greeting = session.greeting();
        session.close().await;
        Ok(greeting)
    }

    /// Gives it sender and recipient of a mail. A connection that the relay has closed meanwhile is replaced, once.
    pub(crate) async fn begin(&self, envelope: &Envelope) -> Result<Begun, Fault> {
        let Envelope { sender, to } = envelope;
        let closed = || Fault::new(Stage::Connect, "the connections to the relay are closed");
        let place = self.0.pool.place().await.ok_or_else(closed)?;
        self.renew_credentials().await;
        if let Some(mut session) = self.0.pool.take() {
            let begun = session.begin(sender, to).await;
            let is_stale = session.is_used() && !session.is_good();
            match begun {
                Ok(()) => {
                    return Ok(Begun {
                        session,
                        relay: self.clone(),
                        place,
                    });
                }
                Err(fault)
                    if !is_stale || fault.reply.as_ref().is_some_and(|it| it.code != 421) =>
                {
                    self.keep(session).await;
                    return Err(fault);
                }
                Err(_) => {}
            }
        }
        let mut session = self.open().await?;
        match session.begin(sender, to).await {
            Ok(()) => Ok(Begun {
                session,
                relay: self.clone(),
                place,
            }),
            Err(fault) => {
                self.keep(session).await;
                Err(fault)
            }
        }
    }

    /// Keeps a connection on which a mail was begun and refused.
    async fn keep(&self, mut session: Session) {
        session.reset().await;
        self.0.pool.give_back(session);
    }

    async fn open(&self) -> Result<Session, Fault> {
        Session::open(&self.0.opening, self.credentials()).await
    }

    fn credentials(&self) -> Option<Credentials> {
        let given = self.0.username.get().zip(self.0.password.get());
        given.filter(|(user, _)| !user.expose_secret().is_empty())
    }

    /// Connections with former credentials are not used any more.
    async fn renew_credentials(&self) {
        let now = self.credentials();
        let mut known = self.0.credentials.lock().await;
        if !are_same(known.as_ref(), now.as_ref()) {
            self.0.pool.clear();
            *known = now;
        }
    }
}

impl Begun {
    /// Gives it the content; what the relay answers. From here on the mail may have been taken, whatever happens.
    pub(crate) async fn finish(mut self, content: &[u8]) -> Result<Reply, Fault> {
        let finished = self.session.finish(content).await;
        let Self {
            session,
            relay,
            place,
        } = self;
        if finished.is_ok() {
            let now = millis(relay.0.began.elapsed()).max(1);
            relay.0.good_at.store(now, Relaxed);
        }
        match &finished {
            Ok(_) => relay.0.pool.give_back(session),
            Err(_) => relay.keep(session).await,
        }
        drop(place);
        finished
    }

    /// Takes the mail back before its content is given.
    pub(crate) async fn take_back(self) {
        let Self {
            session,
            relay,
            place,
        } = self;
        relay.keep(session).await;
        drop(place);
    }
}

fn are_same(one: Option<&Credentials>, other: Option<&Credentials>) -> bool {
    let is = |it: &SecretString, other: &SecretString| it.expose_secret() == other.expose_secret();
    match (one, other) {
        (Some(one), Some(other)) => is(&one.0, &other.0) && is(&one.1, &other.1),
        (None, None) => true,
        _ => false,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An address with a name, for a header.
pub(super) fn mailbox(address: &EmailAddress, name: Option<String>) -> Result<Mailbox, String> {
    let email: Address = address
        .as_str()
        .parse()
        .map_err(|error| format!("it is not an address: {error}"))?;
    Ok(Mailbox::new(name, email))
}

fn tls(host: &str, settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = &settings.ca_cert {
        let wrong = |problem: String| format!("DOTMAC_SMTP_CA_CERT {}: {problem}", path.display());
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| error.to_string())
}
