//! How often a server is asked for a token, in time that is paused.

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::{
    Client, KvVersion, VaultConfig,
    vault::{backend::CallFailure, backend::Reply, backend::Request, backend::SecretBackend},
};

/// A server that is sealed when it is said to be, and notes when it was asked for a login.
struct FakeServer {
    asked: Mutex<Vec<Instant>>,
    /// Given how often it was asked before.
    is_sealed: Box<dyn Fn(usize) -> bool + Send + Sync>,
}

impl FakeServer {
    fn new(is_sealed: impl Fn(usize) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            is_sealed: Box::new(is_sealed),
        })
    }

    fn asked(&self) -> Vec<Instant> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SecretBackend for FakeServer {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !request.path.ends_with("/login") {
                return Ok(Answer::default());
            }
            let before = self.asked().len();
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(Instant::now());
            drop(asked);
            if (self.is_sealed)(before) {
                let errors = Vec::new();
                return Err(CallFailure::Refused {
                    status: 503,
                    errors,
                    retry_after: None,
                });
            }
            Ok(Answer {
                auth: Some(Granted {
                    client_token: "s.token".into(),
                    policies: Vec::new(),
                    lease_duration: 3600,
                    renewable: true,
                }),
                ..Answer::default()
            })
        })
    }

    fn health(&self) -> Reply<'_, u16> {
        Box::pin(async { Ok(503) })
    }

    fn reopen(&self) -> Reply<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn vault(refuses: usize) -> (Vault, Arc<FakeServer>) {
    let server = FakeServer::new(move |before| before < refuses);
    (over(&server), server)
}

fn over(server: &Arc<FakeServer>) -> Vault {
    let config = VaultConfig {
        address: "http://fake".to_owned(),
        namespace: None,
        auth: Auth::Jwt {
            mount: "jwt".to_owned(),
            role: None,
            jwt: "proof".into(),
        },
        mount: "secret".to_owned(),
        kv_version: KvVersion::V2,
        ca_cert: None,
        timeout: Duration::from_secs(5),
        client: Client::default(),
    };
    Vault::over(config, Arc::clone(server) as _)
}

#[tokio::test(start_paused = true)]
async fn however_many_need_a_token_at_once_there_is_one_login() {
    let (vault, server) = vault(0);
    let asked = join_all((0..100).map(|_| vault.session(None))).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_asked_ever_more_seldom_however_often_we_are() {
    let (vault, server) = vault(usize::MAX);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        assert!(vault.session(None).await.is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 100 ms doubling to 10 s: seven attempts to get there, then one in 5 to 10 s.
    let logins = server.asked().len();
    assert!((8..=22).contains(&logins), "{logins} logins in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_is_found_and_forgiven() {
    let (vault, server) = vault(3);
    let begun = Instant::now();
    while vault.session(None).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(server.asked().len(), 4);
    vault.leave().await;
    assert!(vault.session(None).await.is_ok(), "no wait is left over");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_replicas_that_lost_their_server_together_do_not_come_back_together() {
    let back = Instant::now() + Duration::from_secs(60);
    let server = FakeServer::new(move |_| Instant::now() < back);
    join_all((0..100).map(|_| async {
        let vault = over(&server);
        while vault.session(None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }))
    .await;
    let (during, after): (Vec<_>, Vec<_>) = server.asked().into_iter().partition(|it| *it < back);
    assert!(during.len() <= 100 * 22, "{} while sealed", during.len());
    assert_eq!(after.len(), 100, "each once");
    let until = |end: &Instant| after.iter().filter(|it| *it <= end).count();
    let within = Duration::from_millis(500);
    let busiest = after.iter().map(|it| until(&(*it + within)) - until(it));
    // They are spread over the ten seconds of the longest wait: seven are to be expected.
    let busiest = busiest.max().unwrap_or_default();
    assert!(busiest <= 25, "{busiest} logins within {within:?}");
}
