//! What every client must refuse alike, of a server that only a fake can be.

use dotmac_secrets::{Auth, Client, SecretsError, Vault, VaultConfig};
use dotmac_testkit::fakes::{FakeHttpServer, write_answer};

use crate::{
    chain,
    contract::CLIENTS,
    root,
    server::{OpenBao, Outcome},
    vault_config,
};

/// A server that sends each request on to the same path at `to`.
fn fake_redirecting(status: u16, to: String) -> FakeHttpServer {
    FakeHttpServer::start(move |request, stream| {
        let head = format!("{status} Elsewhere\r\nlocation: {to}{}", request.path());
        write_answer(stream, &head, "")
    })
}

fn approle() -> Auth {
    Auth::AppRole {
        mount: "approle".to_owned(),
        role_id: "a-role".into(),
        secret_id: "a-secret-id".into(),
        wrapped: false,
    }
}

async fn refusal(config: VaultConfig) -> Outcome<SecretsError> {
    let refused = Vault::new(config)?.log_in().await;
    Ok(refused.err().ok_or("it was not refused")?)
}

#[actix::test]
async fn no_credential_follows_a_redirect_to_another_host() -> Outcome {
    let thief = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "{}"));
    for client in CLIENTS {
        for status in [301, 302, 307, 308] {
            let to = format!("http://localhost:{}", thief.port);
            let server = fake_redirecting(status, to.clone());
            for auth in [root(), approle()] {
                let error = refusal(VaultConfig {
                    client: *client,
                    ..vault_config(&server.address(), auth)
                })
                .await?;
                let text = chain(&error);
                assert_eq!(error.reason().as_str(), "bad_answer", "{client:?}: {text}");
                assert!(text.contains(&format!("redirects to `{to}`")), "{text}");
            }
        }
    }
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
    Ok(())
}

#[actix::test]
async fn the_default_client_follows_a_standby_of_the_same_host() -> Outcome {
    let server = OpenBao::start()?;
    let standby = fake_redirecting(307, server.address.clone());
    let config = vault_config(&standby.address(), root());
    Vault::new(VaultConfig {
        client: Client::Native,
        ..config
    })?
    .log_in()
    .await?;
    Ok(())
}

#[actix::test]
async fn an_answer_without_what_was_asked_for_is_not_vaults() -> Outcome {
    for client in CLIENTS {
        for body in [
            "{}",
            r#"{"data":{}}"#,
            r#"{"auth":{"client_token":""}}"#,
            "",
        ] {
            let server =
                FakeHttpServer::start(move |_, stream| write_answer(stream, "200 OK", body));
            for auth in [root(), approle()] {
                let error = refusal(VaultConfig {
                    client: *client,
                    ..vault_config(&server.address(), auth)
                })
                .await?;
                let text = chain(&error);
                assert_eq!(
                    error.reason().as_str(),
                    "bad_answer",
                    "{client:?} {body}: {text}"
                );
            }
        }
    }
    Ok(())
}
