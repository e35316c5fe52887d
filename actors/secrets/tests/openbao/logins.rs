//! Each way to log in, against the real auth engine. Kubernetes' own part is a fake, named as such.

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dotmac_secrets::{Auth, Credential, Vault, VaultConfig, reason};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::{
    chain,
    contract::CLIENTS,
    identities::{FakeKubernetes, Key, openssl},
    server::{OpenBao, Outcome, ROOT, Scratch},
    vault_config,
};

/// A policy `app` for the secret `secret/app/key`, and the secret.
fn with_secret(server: &OpenBao) -> Outcome {
    server.policy(
        "app",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    server
        .bao(&["kv", "put", "secret/app/key", "value=allowed"])
        .map(drop)
}

async fn reads(config: VaultConfig) -> Outcome<Vault> {
    let vault = Vault::new(config)?;
    let document = vault.read(&"app/key".parse()?).await?;
    assert_eq!(
        document.field(&"vault:app/key".parse()?)?.expose_secret(),
        "allowed"
    );
    Ok(vault)
}

/// After a refusal the next login waits a moment.
async fn read_in_time(vault: &Vault) -> Outcome {
    let path = "app/key".parse()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match vault.read(&path).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Ends every login at `mount`: clients must log in again.
fn end_logins(server: &OpenBao, mount: &str) -> Outcome {
    let prefix = format!("auth/{mount}/login");
    server
        .bao(&["lease", "revoke", "-sync", "-prefix", &prefix])
        .map(drop)
}

fn by_each_client(config: &VaultConfig) -> impl Iterator<Item = VaultConfig> {
    CLIENTS.iter().map(|client| VaultConfig {
        client: *client,
        ..config.clone()
    })
}

async fn refusal(config: VaultConfig) -> Outcome<String> {
    let error = Vault::new(config)?
        .log_in()
        .await
        .err()
        .ok_or("it was not refused")?;
    assert_eq!(error.reason(), reason::AUTHENTICATION_FAILED, "{error:?}");
    Ok(chain(&error))
}

#[actix::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_serves_every_later_login() -> Outcome {
    let server = OpenBao::start()?;
    with_secret(&server)?;
    server.bao(&["auth", "enable", "-path=team/approle", "approle"])?;
    server.bao(&[
        "write",
        "auth/team/approle/role/app",
        "token_policies=app",
        "token_ttl=1h",
    ])?;
    let role_id = server.bao(&[
        "read",
        "-field=role_id",
        "auth/team/approle/role/app/role-id",
    ])?;
    let wrap = || {
        server.bao(&[
            "write",
            "-wrap-ttl=60s",
            "-force",
            "-field=wrapping_token",
            "auth/team/approle/role/app/secret-id",
        ])
    };
    let scratch = Scratch::new()?;
    let file = scratch.0.join("wrapped");
    fs::write(&file, wrap()?)?;
    let auth = Auth::AppRole {
        mount: "team/approle".to_owned(),
        role_id: role_id.into(),
        secret_id: Credential::File(file.clone()),
        wrapped: true,
    };
    for config in by_each_client(&vault_config(&server.address, auth)) {
        let vault = reads(config.clone()).await?;
        end_logins(&server, "team/approle")?;
        vault.read(&"app/key".parse()?).await?;

        let text = refusal(config.clone()).await?;
        assert!(text.contains("an attacker may have"), "{text}");
        fs::write(&file, wrap()?)?;
        reads(config).await?;
        fs::write(&file, wrap()?)?;
    }
    Ok(())
}

#[actix::test]
async fn a_wrapping_token_made_anywhere_else_is_refused_and_left_unused() -> Outcome {
    let server = OpenBao::start()?;
    with_secret(&server)?;
    for mount in ["approle", "other"] {
        server.bao(&["auth", "enable", &format!("-path={mount}"), "approle"])?;
        let role = format!("auth/{mount}/role/app");
        server.bao(&["write", &role, "token_policies=app"])?;
    }
    let role_id = server.bao(&["read", "-field=role_id", "auth/approle/role/app/role-id"])?;
    let wrapped = |command: &[&str]| {
        let wrap = ["-wrap-ttl=60s", "-field=wrapping_token"];
        server.bao(&[&command[..1], &wrap, &command[1..]].concat())
    };
    let secret_id = "auth/approle/role/app/secret-id";
    let known = server.bao(&["write", "-force", "-field=secret_id", secret_id])?;
    for (made_at, token) in [
        // A secret id that an attacker has read and wrapped again: it would log in.
        (
            "sys/wrapping/wrap",
            wrapped(&["write", "sys/wrapping/wrap", &format!("secret_id={known}")])?,
        ),
        (
            "auth/other/role/app/secret-id",
            wrapped(&["write", "-force", "auth/other/role/app/secret-id"])?,
        ),
        (
            "auth/approle/role/app/role-id",
            wrapped(&["read", "auth/approle/role/app/role-id"])?,
        ),
    ] {
        let auth = Auth::AppRole {
            mount: "approle".to_owned(),
            role_id: role_id.clone().into(),
            secret_id: token.clone().into(),
            wrapped: true,
        };
        let text = refusal(vault_config(&server.address, auth)).await?;
        let reported = format!("made at `{made_at}`, not at `auth/approle/role/ROLE/secret-id`");
        assert!(text.contains(&reported), "{text}");
        assert!(!text.contains(&token), "{text}");
        server.bao(&["unwrap", &token])?;
    }
    Ok(())
}

#[actix::test]
async fn a_jwt_is_read_from_its_file_at_each_login() -> Outcome {
    let server = OpenBao::start()?;
    with_secret(&server)?;
    let keys = Scratch::new()?;
    let key = Key::new(&keys.0)?;
    server.bao(&["auth", "enable", "jwt"])?;
    server.bao(&[
        "write",
        "auth/jwt/config",
        &format!("jwt_validation_pubkeys=@{}", key.public.display()),
    ])?;
    server.bao(&[
        "write",
        "auth/jwt/role/app",
        "role_type=jwt",
        "bound_audiences=vault",
        "user_claim=sub",
        "token_policies=app",
        "token_ttl=1h",
    ])?;
    let file = keys.0.join("jwt");
    let config = vault_config(
        &server.address,
        Auth::Jwt {
            mount: "jwt".to_owned(),
            role: Some("app".to_owned()),
            jwt: Credential::File(file.clone()),
        },
    );
    let claims = |lives: i64| -> Outcome<serde_json::Value> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        Ok(json!({ "sub": "dotmac", "aud": "vault", "iat": now - 600, "exp": now + lives }))
    };
    for config in by_each_client(&config) {
        let text = refusal(config.clone()).await?;
        assert!(text.contains(&file.display().to_string()), "{text}");
        let expired = key.sign(&claims(-300)?)?;
        fs::write(&file, &expired)?;
        let text = refusal(config.clone()).await?;
        assert!(text.contains("JWT") && !text.contains(&expired), "{text}");
        fs::write(&file, key.sign(&claims(600)?)?)?;
        let vault = reads(config).await?;
        assert_eq!(vault.log_in().await?.policies, ["app", "default"]);

        end_logins(&server, "jwt")?;
        fs::write(&file, &expired)?;
        assert!(vault.read(&"app/key".parse()?).await.is_err());
        fs::write(&file, key.sign(&claims(900)?)?)?;
        read_in_time(&vault).await?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

#[actix::test]
async fn a_client_certificate_logs_in_and_is_read_at_each_login() -> Outcome {
    let server = OpenBao::start_with_tls()?;
    with_secret(&server)?;
    let pki = Scratch::new()?;
    for who in ["right", "wrong"] {
        openssl(
            &pki.0,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={who} \
                 -addext extendedKeyUsage=clientAuth -keyout {who}.key -out {who}.pem"
            ),
        )?;
    }
    server.bao(&["auth", "enable", "cert"])?;
    server.bao(&[
        "write",
        "auth/cert/certs/app",
        &format!("certificate=@{}", pki.0.join("right.pem").display()),
        "token_policies=app",
    ])?;
    let (certificate, key) = (pki.0.join("client.pem"), pki.0.join("client.key"));
    let place = |who: &str| -> Outcome {
        fs::copy(pki.0.join(format!("{who}.pem")), &certificate)?;
        fs::copy(pki.0.join(format!("{who}.key")), &key)?;
        Ok(())
    };
    let config = VaultConfig {
        ca_cert: Some(server.ca()),
        ..vault_config(
            &server.address,
            Auth::Certificate {
                mount: "cert".to_owned(),
                role: Some("app".to_owned()),
                certificate: certificate.clone(),
                key: key.clone(),
            },
        )
    };
    let text = refusal(config.clone()).await?;
    assert!(text.contains("client.key"), "{text}");
    place("right")?;
    let vault = reads(config.clone()).await?;
    // Rotated to one that the server does not know: that shows at the next login, and not before.
    place("wrong")?;
    vault.read(&"app/key".parse()?).await?;
    let text = refusal(config).await?;
    assert!(text.contains("client certificate"), "{text}");
    end_logins(&server, "cert")?;
    assert!(vault.read(&"app/key".parse()?).await.is_err());
    place("right")?;
    read_in_time(&vault).await
}

#[actix::test]
async fn a_kubernetes_service_account_logs_in() -> Outcome {
    let server = OpenBao::start()?;
    with_secret(&server)?;
    let keys = Scratch::new()?;
    let key = Key::new(&keys.0)?;
    let kubernetes = FakeKubernetes::start()?;
    // It wants an authority even for a plain address, which the fake's is.
    openssl(
        &keys.0,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
    )?;
    server.bao(&["auth", "enable", "kubernetes"])?;
    server.bao(&[
        "write",
        "auth/kubernetes/config",
        &format!("kubernetes_host={}", kubernetes.address),
        "disable_local_ca_jwt=true",
        &format!("kubernetes_ca_cert=@{}", keys.0.join("ca.pem").display()),
        "token_reviewer_jwt=reviewer",
    ])?;
    server.bao(&[
        "write",
        "auth/kubernetes/role/app",
        "bound_service_account_names=dotmac",
        "bound_service_account_namespaces=prod",
        "token_policies=app",
    ])?;
    let file = keys.0.join("token");
    let account = |name: &str| {
        json!({
            "sub": format!("system:serviceaccount:prod:{name}"),
            "iss": "https://kubernetes.default.svc", "aud": ["vault"],
            "kubernetes.io": { "namespace": "prod", "serviceaccount": { "name": name, "uid": "1" } },
        })
    };
    let config = |role: &str| {
        vault_config(
            &server.address,
            Auth::Kubernetes {
                mount: "kubernetes".to_owned(),
                role: role.to_owned(),
                jwt: Credential::File(file.clone()),
            },
        )
    };
    for client in CLIENTS {
        let config = |role: &str| VaultConfig {
            client: *client,
            ..config(role)
        };
        fs::write(&file, key.sign(&account("dotmac"))?)?;
        let vault = reads(config("app")).await?;
        let text = refusal(config("other")).await?;
        assert!(text.contains("Kubernetes service account"), "{text}");
        fs::write(&file, key.sign(&account("somebody"))?)?;
        refusal(config("app")).await?;

        end_logins(&server, "kubernetes")?;
        assert!(vault.read(&"app/key".parse()?).await.is_err());
        fs::write(&file, key.sign(&account("dotmac"))?)?;
        read_in_time(&vault).await?;
    }
    Ok(())
}

#[actix::test]
async fn a_token_is_taken_from_the_file_that_an_agent_keeps() -> Outcome {
    let server = OpenBao::start()?;
    with_secret(&server)?;
    let scratch = Scratch::new()?;
    let file = scratch.0.join("sink");
    let config = vault_config(&server.address, Auth::Token(Credential::File(file.clone())));
    fs::write(&file, "")?;
    assert!(refusal(config.clone()).await?.contains("it is empty"));
    fs::write(&file, format!("{ROOT}\n"))?;
    reads(config).await?;
    Ok(())
}
