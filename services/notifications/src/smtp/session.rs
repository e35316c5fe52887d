//! One connection to the relay, verb by verb, each within its time.

use std::time::{Duration, Instant};

use lettre::{
    Address,
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::ClientId,
        response::Response,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{net::TcpStream, time::timeout};

use super::{
    reply::{Fault, Reply, Stage},
    settings::SmtpTls,
};

/// Mails of one connection: relays limit them, and a fresh one finds a relay's new address.
const MOST_MAILS: u32 = 100;
/// An idle connection is not used again after that: relays close them, often without a word.
const IDLE: Duration = Duration::from_secs(20);

/// How a connection is opened.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: SmtpTls,
    pub(super) parameters: Option<TlsParameters>,
    pub(super) hello: ClientId,
    pub(super) timeout: Duration,
}

/// A connection that mail can be given to.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    limit: Duration,
    mails: u32,
    used: Instant,
    /// What the relay refused, its greeting among it, is over; what it said of itself.
    is_usable: bool,
}

impl Session {
    /// Opens a connection, up to `AUTH` if there are credentials.
    pub(super) async fn open(
        opening: &Opening,
        credentials: Option<(SecretString, SecretString)>,
    ) -> Result<Self, Fault> {
        let limit = opening.timeout;
        let server = (opening.host.as_str(), opening.port);
        let implicit = (opening.tls == SmtpTls::Tls)
            .then(|| opening.parameters.clone())
            .flatten();
        let hello = &opening.hello;
        let connection = match implicit {
            Some(_) => {
                let connecting =
                    AsyncSmtpConnection::connect_tokio1(server, Some(limit), hello, implicit, None);
                within(limit, Stage::Connect, connecting).await?
            }
            None => {
                let connecting = async {
                    let stream = Box::new(connect(server).await?);
                    let greeting = AsyncSmtpConnection::connect_with_transport(stream, hello);
                    greeting.await.map_err(StepError::Smtp)
                };
                within(limit, Stage::Connect, connecting).await?
            }
        };
        let mut session = Self {
            connection,
            limit,
            mails: 0,
            used: Instant::now(),
            is_usable: true,
        };
        if let (SmtpTls::StartTls, Some(parameters)) = (opening.tls, opening.parameters.clone()) {
            if !session.connection.can_starttls() {
                return Err(Fault::new(Stage::Tls, "the relay offers no STARTTLS"));
            }
            let starting = session.connection.starttls(parameters, &opening.hello);
            within(limit, Stage::Tls, starting).await?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(
                user.expose_secret().to_owned(),
                password.expose_secret().to_owned(),
            );
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let proving = session.connection.auth(&mechanisms, &credentials);
            within(limit, Stage::Auth, proving).await?;
        }
        Ok(session)
    }

    /// The name by which the relay greets.
    pub(super) fn greeting(&self) -> String {
        self.connection.server_info().to_string()
    }

    /// `MAIL FROM` and `RCPT TO`. On a connection that was used before, a failure without an answer says that the relay had
    /// closed it.
    pub(super) async fn begin(&mut self, from: &Address, to: &Address) -> Result<(), Fault> {
        let mail = Mail::new(Some(from.clone()), Vec::new());
        self.say(Stage::Mail, mail).await?;
        let rcpt = Rcpt::new(to.clone(), Vec::new());
        self.say(Stage::Rcpt, rcpt).await?;
        Ok(())
    }

    /// `DATA`, and the content.
    pub(super) async fn finish(&mut self, content: &[u8]) -> Result<Reply, Fault> {
        self.say(Stage::Data, Data).await?;
        let sending = self.connection.message(content);
        let sent = within(self.limit, Stage::Content, sending).await;
        self.note(&sent);
        self.mails += 1;
        Ok(Reply::from(&sent?))
    }

    /// Takes back what was begun, so that the next mail can follow.
    pub(super) async fn reset(&mut self) {
        if self.is_usable {
            self.is_usable = self.say(Stage::Mail, Rset).await.is_ok();
        }
    }

    /// Whether another mail can be given to it.
    pub(super) fn is_good(&self) -> bool {
        self.is_usable && self.mails < MOST_MAILS && self.used.elapsed() < IDLE
    }

    /// Whether it has carried a mail, so that the relay may have closed it since.
    pub(super) const fn is_used(&self) -> bool {
        self.mails > 0
    }

    /// Says good-bye.
    pub(super) async fn close(mut self) {
        if self.is_usable {
            timeout(Duration::from_secs(1), self.connection.quit())
                .await
                .ok();
        }
    }

    async fn say<C: std::fmt::Display>(
        &mut self,
        stage: Stage,
        command: C,
    ) -> Result<Response, Fault> {
        let said = within(self.limit, stage, self.connection.command(command)).await;
        self.note(&said);
        said
    }

    /// Without an answer, and after 421, the connection is of no more use.
    fn note(&mut self, said: &Result<Response, Fault>) {
        self.used = Instant::now();
        if let Err(fault) = said {
            self.is_usable = fault.reply.as_ref().is_some_and(|it| it.code != 421);
        }
    }
}

/// Why a step of a session failed.
enum StepError {
    Io(std::io::Error),
    Smtp(SmtpError),
}

impl From<SmtpError> for StepError {
    fn from(error: SmtpError) -> Self {
        Self::Smtp(error)
    }
}

/// A connection that sends at once what it is given. lettre writes a mail in two pieces, and by itself the second would wait until the
/// relay has acknowledged the first, which takes up to 40 ms.
async fn connect(server: (&str, u16)) -> Result<TcpStream, StepError> {
    let stream = TcpStream::connect(server).await.map_err(StepError::Io)?;
    stream.set_nodelay(true).map_err(StepError::Io)?;
    Ok(stream)
}

async fn within<T, E: Into<StepError>>(
    limit: Duration,
    stage: Stage,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.into() {
            StepError::Io(error) => Fault::new(stage, error.to_string()),
            StepError::Smtp(error) => Fault::of(stage, &error),
        }),
        Err(_) => Err(Fault::new(stage, format!("no answer within {limit:?}"))),
    }
}
