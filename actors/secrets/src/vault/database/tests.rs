//! Answers about leases that say nothing, or something else than it seems: none may cost a good lease.

use std::sync::Mutex;

use super::*;
use crate::{
    Auth, Client, KvVersion, VaultConfig,
    vault::{backend::Reply, backend::Request, backend::SecretBackend},
};

/// A server that is active, knows the token, and answers everything else with what it is given.
struct FakeServer(Mutex<Box<dyn Fn() -> Result<Answer, CallFailure> + Send>>);

impl SecretBackend for FakeServer {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        Box::pin(async move {
            if request.path == crate::vault::login::LOOKUP {
                return Ok(Answer {
                    data: Some(json!({ "policies": ["default"], "ttl": 3600, "renewable": true })),
                    ..Answer::default()
                });
            }
            let answer = self.0.lock().unwrap_or_else(|died| died.into_inner());
            answer()
        })
    }

    fn health(&self) -> Reply<'_, u16> {
        Box::pin(async { Ok(200) })
    }

    fn reopen(&self) -> Reply<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn vault(answer: impl Fn() -> Result<Answer, CallFailure> + Send + 'static) -> Vault {
    let config = VaultConfig {
        address: "http://fake".to_owned(),
        namespace: None,
        auth: Auth::Token("s.token".into()),
        mount: "secret".to_owned(),
        kv_version: KvVersion::V2,
        ca_cert: None,
        timeout: Duration::from_secs(5),
        client: Client::default(),
    };
    Vault::over(config, Arc::new(FakeServer(Mutex::new(Box::new(answer)))))
}

fn refused(status: u16, error: &'static str) -> impl Fn() -> Result<Answer, CallFailure> {
    move || {
        Err(CallFailure::Refused {
            status,
            errors: vec![error.to_owned()],
            retry_after: None,
        })
    }
}

fn role() -> Result<DatabaseRole, crate::ReferenceError> {
    Ok(DatabaseRole {
        name: "database",
        mount: "database".parse()?,
        role: "dotmac".parse()?,
        username: "USER".to_owned(),
        password: "PASSWORD".to_owned(),
    })
}

async fn lease(vault: &Vault) -> Result<Arc<Lease>, SecretsError> {
    let session = vault.session(None).await?;
    let id = Some("a lease".to_owned());
    Ok(Lease::new(id, &session, vault.outbox()))
}

fn reason<T>(answer: Result<T, SecretsError>) -> Option<&'static str> {
    answer.err().map(|error| error.reason().as_str())
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn an_answer_that_says_nothing_of_a_lease_does_not_end_it() -> Outcome {
    let (vault, role) = (vault(|| Ok(Answer::default())), role()?);
    let lease = lease(&vault).await?;
    let renewed = vault.renew_lease(&lease, &role).await;
    assert_eq!(reason(renewed), Some("bad_answer"));
    let looked = vault.look_at_lease(&lease, &role).await;
    assert_eq!(reason(looked), Some("bad_answer"));
    Ok(())
}

#[tokio::test]
async fn credentials_without_a_lease_are_not_those_of_a_dynamic_role() -> Outcome {
    let vault = vault(|| {
        Ok(Answer {
            data: Some(json!({ "username": "u", "password": "p" })),
            ..Answer::default()
        })
    });
    assert_eq!(reason(vault.issue(&role()?).await), Some("bad_answer"));
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_brings_no_token_is_a_failure_and_not_repeated_at_once() -> Outcome {
    let vault = vault(|| Ok(Answer::default()));
    let session = vault.session(None).await?;
    let now = Instant::now();
    let granted = now.checked_sub(Duration::from_secs(3000)).unwrap_or(now);
    let clock = LeaseClock::leased(granted, Duration::from_secs(3600), true, 0.5);
    session.set_clock(Some(clock));
    assert_eq!(reason(vault.keep_session().await), Some("bad_answer"));
    Ok(())
}

#[tokio::test]
async fn a_lease_whose_user_could_not_be_dropped_is_given_back_later() -> Outcome {
    let words = "failed to revoke entry: resp: (*logical.Response)(nil) err: failed to connect to `user=openbao`";
    let away = vault(refused(400, words));
    let session = away.session(None).await?;
    assert!(away.revoke_lease("a lease", &session).await.is_err());
    let unknown = vault(refused(400, "invalid lease ID"));
    let session = unknown.session(None).await?;
    assert!(unknown.revoke_lease("a lease", &session).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_database_that_vault_does_not_reach_is_not_vault() -> Outcome {
    let words = "1 error occurred:\n\t* failed to connect to `user=openbao database=dotmac`: connection refused";
    let issued = vault(refused(500, words)).issue(&role()?).await;
    let error = issued.err().ok_or("it was not refused")?;
    assert_eq!(error.reason().as_str(), "database_engine_failed");
    let text = dotmac_causes::chain(&error);
    assert!(
        text.contains("failed to connect to `user=openbao"),
        "{text}"
    );
    assert!(!text.contains("check that the address"), "{text}");
    Ok(())
}
