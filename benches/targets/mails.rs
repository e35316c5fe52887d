//! Mails: through one relay, against bare loops of lettre, a connection each. This program is run once more as the
//! platform with the module; the relay is in this process and takes everything.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use dotmac_platform::Platform;
use futures_util::future::join_all;
use lettre::{
    Message,
    transport::smtp::{client::AsyncSmtpConnection, extension::ClientId},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    caller::OneCaller,
    process::Measured,
    report::{Report, median},
    support::{self, Postgres},
};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "MAILS_SERVER";
const ROUNDS: usize = 3;
/// Connections to the relay, of either side.
const CONNECTIONS: u32 = 8;
/// Mails of a round.
const MAILS: usize = 2000;
/// Recipients of a call.
const PER_CALL: usize = 500;

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("mails", env!("CARGO_PKG_VERSION"))
        .authenticator(OneCaller)
        .module::<dotmac_jobs::Jobs>()
        .module::<dotmac_notifications::Smtp>()
        .module::<dotmac_notifications::Notifications>()
        .main()
}

/// A relay with as little ceremony as possible.
#[derive(Default)]
struct Relay {
    taken: AtomicUsize,
}

impl Relay {
    async fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Arc::<Self>::default();
        let serving = Arc::clone(&relay);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = Arc::clone(&serving);
                tokio::spawn(async move { drop(serving.serve(stream).await) });
            }
        });
        (relay, port)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (reading, mut writing) = stream.into_split();
        let mut lines = BufReader::new(reading).lines();
        writing.write_all(b"220 relay.test ESMTP\r\n").await?;
        let mut is_content = false;
        while let Some(line) = lines.next_line().await? {
            let answer: &[u8] = match (is_content, line.get(..4).unwrap_or(&line)) {
                (true, ".") => {
                    is_content = false;
                    self.taken.fetch_add(1, SeqCst);
                    b"250 2.0.0 Ok: queued as 4F1C\r\n"
                }
                (true, _) => continue,
                (false, "EHLO") => b"250-relay.test\r\n250 8BITMIME\r\n",
                (false, "DATA") => {
                    is_content = true;
                    b"354 go on\r\n"
                }
                (false, "QUIT") => return writing.write_all(b"221 bye\r\n").await,
                (false, _) => b"250 2.1.0 Ok\r\n",
            };
            writing.write_all(answer).await?;
        }
        Ok(())
    }

    /// Mails in a second, from the first to the last of so many.
    async fn rate(&self, count: usize) -> f64 {
        support::eventually("the first mail", || async {
            (self.taken.load(SeqCst) > 0).then_some(())
        })
        .await;
        let (began, first) = (Instant::now(), self.taken.load(SeqCst));
        while self.taken.load(SeqCst) < count {
            assert!(
                began.elapsed() < Duration::from_secs(300),
                "mails are missing"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (count - first) as f64 / began.elapsed().as_secs_f64()
    }
}

struct Bed {
    platform: Measured,
    client: reqwest::Client,
    relay: Arc<Relay>,
    port: u16,
    _server: Postgres,
    _directory: tempfile::TempDir,
}

impl Bed {
    async fn open() -> Self {
        let (server, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let (relay, port) = Relay::start().await;
        let settings = [
            ("DOTMAC_DATABASE_URL", server.url()),
            ("DOTMAC_SMTP_HOST", "127.0.0.1".to_owned()),
            ("DOTMAC_SMTP_PORT", port.to_string()),
            ("DOTMAC_SMTP_TLS", "none".to_owned()),
            ("DOTMAC_SMTP_FROM_ADDRESS", "noreply@example.com".to_owned()),
            ("DOTMAC_SMTP_CONNECTIONS", CONNECTIONS.to_string()),
        ];
        let platform = Measured::this_program(directory.path(), ASKED, &settings);
        platform.until("/ready");
        Self {
            platform,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            relay,
            port,
            _server: server,
            _directory: directory,
        }
    }

    async fn send(&self, round: usize, call: usize) {
        let to: Vec<_> = (0..PER_CALL)
            .map(|it| json!({ "email": format!("a{round}.{call}.{it}@example.com") }))
            .collect();
        let body = json!({ "to": to, "content": { "subject": "Hello", "text": "x".repeat(400) } });
        let url = format!(
            "http://127.0.0.1:{}/api/v1/notifications",
            self.platform.port
        );
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{status} {body}");
    }
}

/// Mails in a second that the platform hands to the relay, each with its delivery, attempt and event.
async fn ours(bed: &Bed, round: usize) -> f64 {
    bed.relay.taken.store(0, SeqCst);
    let sending = join_all((0..MAILS / PER_CALL).map(|call| bed.send(round, call)));
    let (_, rate) = tokio::join!(sending, bed.relay.rate(MAILS));
    rate
}

/// The same mails by a loop of lettre, by as many connections.
async fn bare(bed: &Bed) -> f64 {
    bed.relay.taken.store(0, SeqCst);
    let next = Arc::new(AtomicUsize::new(0));
    let loops = (0..CONNECTIONS).map(|_| {
        let (next, port) = (Arc::clone(&next), bed.port);
        tokio::spawn(async move {
            let hello = ClientId::Domain("example.com".to_owned());
            let limit = Some(Duration::from_secs(60));
            let opening =
                AsyncSmtpConnection::connect_tokio1(("127.0.0.1", port), limit, &hello, None, None);
            let mut connection = opening.await.unwrap();
            loop {
                let number = next.fetch_add(1, SeqCst);
                if number >= MAILS {
                    return;
                }
                let mail = Message::builder()
                    .from("noreply@example.com".parse().unwrap())
                    .to(format!("a{number}@example.com").parse().unwrap())
                    .subject("Hello")
                    .body("x".repeat(400))
                    .unwrap();
                let content = mail.formatted();
                let sending = connection.send(mail.envelope(), &content);
                sending.await.unwrap();
            }
        })
    });
    let sending = join_all(loops);
    let (_, rate) = tokio::join!(sending, bed.relay.rate(MAILS));
    rate
}

pub async fn measure(report: &mut Report) {
    let bed = Bed::open().await;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        mine.push(ours(&bed, round).await);
        theirs.push(bare(&bed).await);
    }
    let (mine, theirs) = (median(&mut mine), median(&mut theirs));
    report.row(
        "mails handed to one SMTP server, 8 connections, PostgreSQL",
        "at least 0.7 of a bare lettre loop",
        format!("{:.2} of it ({mine:.0}/s)", mine / theirs),
        format!("bare lettre loop, 8 connections: {theirs:.0}/s"),
        mine >= 0.7 * theirs,
    );
}
