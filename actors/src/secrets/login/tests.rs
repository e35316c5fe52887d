//! How often a server is asked for a token, in time that is paused.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;

use super::*;
use crate::secrets::{
    Client, KvVersion, VaultConfig,
    backend::{Reply, Request, SecretBackend},
};

/// A server that is unsealed after so many logins, and counts them all.
struct FakeServer {
    logins: AtomicUsize,
    refuses: usize,
}

impl SecretBackend for FakeServer {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !request.path.ends_with("/login") {
                return Ok(Answer::default());
            }
            let refused = self.logins.fetch_add(1, Relaxed) < self.refuses;
            if refused {
                let errors = Vec::new();
                return Err(CallFailure::Refused {
                    status: 503,
                    errors,
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
    let server = Arc::new(FakeServer {
        logins: AtomicUsize::new(0),
        refuses,
    });
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
    (Vault::over(config, Arc::clone(&server) as _), server)
}

#[tokio::test(start_paused = true)]
async fn however_many_need_a_token_at_once_there_is_one_login() {
    let (vault, server) = vault(0);
    let asked = join_all((0..100).map(|_| vault.session(None))).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(server.logins.load(Relaxed), 1);
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
    let logins = server.logins.load(Relaxed);
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
    assert_eq!(server.logins.load(Relaxed), 4);
    vault.leave().await;
    assert!(vault.session(None).await.is_ok(), "no wait is left over");
}
