//! What every client must do alike; run for each that is compiled in.

use std::net::TcpListener;

use dotmac_secrets::{
    Auth, Client, Document, Expected, KvVersion, SecretPath, SecretReference, SecretsError, Vault,
    VaultConfig, reason,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    chain, root,
    server::{OpenBao, Outcome},
    vault_config,
};

pub(crate) const CLIENTS: &[Client] = &[
    Client::Native,
    #[cfg(feature = "hashicorp_vault")]
    Client::HashicorpVault,
];

async fn read(config: VaultConfig, path: &str) -> Result<Document, SecretsError> {
    let path = path.parse().map_err(|_| SecretsError::VaultOff {
        reference: nowhere(),
    })?;
    match Vault::new(config) {
        Ok(vault) => vault.read(&path).await,
        Err(_) => Err(SecretsError::VaultOff {
            reference: nowhere(),
        }),
    }
}

#[expect(clippy::unwrap_used, reason = "a constant")]
fn nowhere() -> SecretReference {
    "vault:nowhere".parse().unwrap()
}

fn field(document: &Document, reference: &str) -> Outcome<String> {
    Ok(document
        .field(&reference.parse()?)?
        .expose_secret()
        .to_owned())
}

fn refused<T>(answer: Result<T, SecretsError>) -> Outcome<(&'static str, String)> {
    let error = answer.err().ok_or("it was not refused")?;
    Ok((error.reason().as_str(), chain(&error)))
}

fn app_role(server: &OpenBao, ttl: &str) -> Outcome<Auth> {
    server.policy(
        "app",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    server.bao(&["auth", "enable", "approle"])?;
    server.bao(&[
        "write",
        "auth/approle/role/app",
        "token_policies=app",
        &format!("token_ttl={ttl}"),
        &format!("token_max_ttl={ttl}"),
    ])?;
    let role_id = server.bao(&["read", "-field=role_id", "auth/approle/role/app/role-id"])?;
    let secret_id = server.bao(&[
        "write",
        "-force",
        "-field=secret_id",
        "auth/approle/role/app/secret-id",
    ])?;
    Ok(Auth::AppRole {
        mount: "approle".to_owned(),
        role_id: role_id.into(),
        secret_id: secret_id.into(),
        wrapped: false,
    })
}

#[actix::test]
async fn kv_v1_and_v2_are_read_with_and_without_being_told_which() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["secrets", "enable", "-path=old", "-version=1", "kv"])?;
    server.bao(&["kv", "put", "old/database/password", "value=from-v1"])?;
    server.bao(&["kv", "put", "secret/database/password", "value=first"])?;
    server.bao(&[
        "kv",
        "put",
        "secret/database/password",
        "value=from-v2",
        "port=5432",
    ])?;
    for client in CLIENTS {
        for (mount, kv_version, value, version) in [
            ("old", KvVersion::Auto, "from-v1", None),
            ("old", KvVersion::V1, "from-v1", None),
            ("secret", KvVersion::Auto, "from-v2", Some(2)),
            ("secret", KvVersion::V2, "from-v2", Some(2)),
        ] {
            let config = VaultConfig {
                mount: mount.to_owned(),
                kv_version,
                client: *client,
                ..vault_config(&server.address, root())
            };
            let document = read(config, "database/password").await?;
            assert_eq!(
                field(&document, "vault:database/password")?,
                value,
                "{client:?} {mount} {kv_version:?}"
            );
            assert_eq!(document.version(), version);
        }
    }
    Ok(())
}

#[actix::test]
async fn an_app_role_reads_what_its_policy_allows() -> Outcome {
    let server = OpenBao::start()?;
    let auth = app_role(&server, "1h")?;
    server.bao(&["kv", "put", "secret/app/key", "value=allowed"])?;
    server.bao(&["kv", "put", "secret/other/key", "value=forbidden"])?;
    for client in CLIENTS {
        let config = VaultConfig {
            client: *client,
            ..vault_config(&server.address, auth.clone())
        };
        assert_eq!(
            field(
                &read(config.clone(), "app/key").await?,
                "vault:app/key#value"
            )?,
            "allowed"
        );
        let (reason, text) = refused(read(config.clone(), "other/key").await)?;
        assert_eq!(reason, reason::PERMISSION_DENIED.as_str(), "{text}");
        assert!(
            text.contains(r#"path "secret/data/other/key" { capabilities = ["read"] }"#),
            "{text}"
        );

        let Auth::AppRole { mount, role_id, .. } = auth.clone() else {
            continue;
        };
        let wrong = Auth::AppRole {
            mount,
            role_id,
            secret_id: "wrong-secret-id".into(),
            wrapped: false,
        };
        let (reason, text) = refused(
            read(
                VaultConfig {
                    auth: wrong,
                    ..config
                },
                "app/key",
            )
            .await,
        )?;
        assert_eq!(reason, reason::AUTHENTICATION_FAILED.as_str(), "{text}");
        assert!(
            text.contains("AppRole") && !text.contains("wrong-secret-id"),
            "{text}"
        );
    }
    Ok(())
}

#[actix::test]
async fn a_token_that_was_revoked_is_replaced_by_a_new_login() -> Outcome {
    let server = OpenBao::start()?;
    let auth = app_role(&server, "1h")?;
    server.bao(&["kv", "put", "secret/app/key", "value=allowed"])?;
    for client in CLIENTS {
        let vault = Vault::new(VaultConfig {
            client: *client,
            ..vault_config(&server.address, auth.clone())
        })?;
        vault.read(&"app/key".parse()?).await?;
        server.bao(&["lease", "revoke", "-sync", "-prefix", "auth/approle/login"])?;
        let document = vault.read(&"app/key".parse()?).await?;
        assert_eq!(field(&document, "vault:app/key")?, "allowed");
    }
    Ok(())
}

#[actix::test]
async fn a_wrong_token_is_distinguished_from_a_policy() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/app/key", "value=allowed"])?;
    server.policy(
        "bare",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    let bare = server.bao(&[
        "token",
        "create",
        "-no-default-policy",
        "-policy=bare",
        "-field=token",
    ])?;
    for client in CLIENTS {
        let config = |token: &str| VaultConfig {
            client: *client,
            ..vault_config(&server.address, Auth::Token(token.into()))
        };
        let (reason, text) = refused(read(config("hvs.wrong"), "app/key").await)?;
        assert_eq!(reason, reason::AUTHENTICATION_FAILED.as_str(), "{text}");
        assert!(!text.contains("hvs.wrong"), "{text}");
        // It may not even look at itself, and is good for what it is meant for.
        assert_eq!(
            field(&read(config(&bare), "app/key").await?, "vault:app/key")?,
            "allowed"
        );
        let (reason, text) = refused(read(config(&bare), "other").await)?;
        assert_eq!(reason, reason::PERMISSION_DENIED.as_str(), "{text}");
    }
    Ok(())
}

#[actix::test]
async fn what_is_missing_is_named() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/pair", "user=a", "password=b"])?;
    server.bao(&["kv", "put", "secret/gone", "value=a"])?;
    server.bao(&["kv", "delete", "secret/gone"])?;
    server.bao(&["secrets", "enable", "-path=keys", "transit"])?;
    for client in CLIENTS {
        let config = VaultConfig {
            client: *client,
            ..vault_config(&server.address, root())
        };
        for path in ["never/written", "gone"] {
            let (reason, text) = refused(read(config.clone(), path).await)?;
            assert_eq!(reason, reason::PATH_MISSING.as_str(), "{text}");
            assert!(text.contains(&format!("secret/data/{path}")), "{text}");
        }
        let pair = read(config.clone(), "pair").await?;
        for reference in ["vault:pair", "vault:pair#passwort"] {
            let (reason, text) = refused(pair.field(&reference.parse()?).map(drop))?;
            assert_eq!(reason, reason::FIELD_MISSING.as_str(), "{text}");
            assert!(text.contains("`password`, `user`"), "{text}");
        }
        for (mount, kv_version, expected) in [
            ("nothing", KvVersion::V2, reason::MOUNT_MISSING),
            ("nothing", KvVersion::Auto, reason::PERMISSION_DENIED),
            ("keys", KvVersion::Auto, reason::BAD_ANSWER),
        ] {
            let config = VaultConfig {
                mount: mount.to_owned(),
                kv_version,
                ..config.clone()
            };
            let (reason, text) = refused(read(config, "a").await)?;
            assert_eq!(reason, expected.as_str(), "{text}");
        }
    }
    Ok(())
}

#[actix::test]
async fn a_server_that_cannot_serve_says_why() -> Outcome {
    let mut sealed = OpenBao::start()?;
    sealed.bao(&["operator", "seal"])?;
    let uninitialised = OpenBao::start_uninitialised()?;
    for client in CLIENTS {
        let config = |server: &OpenBao| VaultConfig {
            client: *client,
            ..vault_config(&server.address, root())
        };
        let (reason, text) = refused(read(config(&sealed), "a").await)?;
        assert_eq!(reason, reason::SEALED.as_str(), "{text}");
        let (reason, text) = refused(read(config(&uninitialised), "a").await)?;
        assert_eq!(reason, reason::NOT_INITIALIZED.as_str(), "{text}");
    }
    sealed.kill()?;
    for client in CLIENTS {
        let config = VaultConfig {
            client: *client,
            ..vault_config(&sealed.address, root())
        };
        let (reason, text) = refused(read(config, "a").await)?;
        assert_eq!(reason, reason::UNREACHABLE.as_str(), "{text}");
        assert!(
            text.contains(&sealed.address) && text.contains("refused"),
            "{text}"
        );
    }
    Ok(())
}

#[actix::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() -> Outcome {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let timeout = std::time::Duration::from_millis(300);
    for client in CLIENTS {
        let address = format!("http://{}", silent.local_addr()?);
        let config = VaultConfig {
            client: *client,
            timeout,
            ..vault_config(&address, root())
        };
        let asked = std::time::Instant::now();
        let (reason, text) = refused(read(config, "a").await)?;
        assert_eq!(reason, reason::TIMEOUT.as_str(), "{text}");
        assert!(asked.elapsed() < timeout * 10, "{:?}", asked.elapsed());
    }
    Ok(())
}

#[cfg(feature = "hashicorp_vault")]
#[test]
fn what_hashicorp_vault_cannot_do_is_refused_before_anything_starts() {
    use std::time::Duration;

    use dotmac_secrets::ConfigError;

    let config = VaultConfig {
        client: Client::HashicorpVault,
        ..vault_config("https://vault.example:8200", root())
    };
    assert!(Vault::new(config.clone()).is_ok());
    for unsupported in [
        VaultConfig {
            namespace: Some("team".to_owned()),
            ..config.clone()
        },
        VaultConfig {
            ca_cert: Some("ca.pem".into()),
            ..config.clone()
        },
        VaultConfig {
            timeout: Duration::from_secs(31),
            ..config.clone()
        },
        VaultConfig {
            auth: Auth::Certificate {
                mount: "cert".to_owned(),
                role: None,
                certificate: "client.pem".into(),
                key: "client.key".into(),
            },
            ..config
        },
    ] {
        let refused = Vault::new(unsupported).err();
        assert!(
            matches!(
                refused,
                Some(ConfigError::Unsupported {
                    client: "hashicorp_vault",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[actix::test]
async fn revoke_all_revokes_a_token_of_our_own_and_leaves_one_that_was_given() -> Outcome {
    let server = OpenBao::start()?;
    let auth = app_role(&server, "1h")?;
    server.bao(&["kv", "put", "secret/app/key", "value=allowed"])?;
    let given = server.bao(&["token", "create", "-policy=app", "-field=token"])?;
    let tokens = || -> Outcome<usize> {
        let listed = server.bao(&["list", "-format=json", "auth/token/accessors"])?;
        Ok(listed.lines().filter(|line| line.contains('"')).count())
    };
    let before = tokens()?;
    for client in CLIENTS {
        for auth in [auth.clone(), Auth::Token(given.as_str().into())] {
            let vault = Vault::new(VaultConfig {
                client: *client,
                ..vault_config(&server.address, auth)
            })?;
            vault.read(&"app/key".parse()?).await?;
            vault.revoke_all().await;
            assert_eq!(tokens()?, before, "{client:?}");
        }
    }
    Ok(())
}

fn one(field: &str, value: &str) -> std::collections::BTreeMap<String, SecretString> {
    [(field.to_owned(), value.into())].into()
}

#[actix::test]
async fn a_secret_is_written_unless_another_version_is_there_than_expected() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["secrets", "enable", "-path=old", "-version=1", "kv"])?;
    for (place, client) in CLIENTS.iter().enumerate() {
        let config = |mount: &str| VaultConfig {
            mount: mount.to_owned(),
            client: *client,
            ..vault_config(&server.address, root())
        };
        let path: SecretPath = format!("accounts/signing/key-{place}").parse()?;
        let reference = format!("vault:{path}#key");
        let vault = Vault::new(config("secret"))?;
        let first = vault
            .write(&path, &one("key", "a"), Expected::Absent)
            .await?;
        assert_eq!(first, Some(1), "{client:?}");
        for expected in [Expected::Absent, Expected::Version(2)] {
            let refused = vault.write(&path, &one("key", "b"), expected).await;
            let changed = matches!(refused, Err(SecretsError::Changed { .. }));
            assert!(changed, "{client:?} {expected:?}: {refused:?}");
        }
        assert_eq!(field(&vault.read(&path).await?, &reference)?, "a");
        let second = vault
            .write(&path, &one("key", "b"), Expected::Version(1))
            .await?;
        assert_eq!(second, Some(2), "{client:?}");
        let third = vault.write(&path, &one("key", "c"), Expected::Any).await?;
        assert_eq!(third, Some(3), "{client:?}");
        let document = vault.read(&path).await?;
        assert_eq!(
            (field(&document, &reference)?, document.version()),
            ("c".to_owned(), third)
        );

        // KV v1 has no versions.
        let old = Vault::new(config("old"))?;
        assert_eq!(
            old.write(&path, &one("key", "a"), Expected::Any).await?,
            None
        );
        assert_eq!(field(&old.read(&path).await?, &reference)?, "a");
        let refused = old.write(&path, &one("key", "b"), Expected::Absent).await;
        let unversioned = matches!(refused, Err(SecretsError::Unversioned { .. }));
        assert!(unversioned, "{client:?}: {refused:?}");
    }
    Ok(())
}

#[actix::test]
async fn a_write_that_a_policy_forbids_names_the_path_and_nothing_that_was_to_be_written() -> Outcome
{
    let server = OpenBao::start()?;
    let auth = app_role(&server, "1h")?;
    for client in CLIENTS {
        let config = VaultConfig {
            client: *client,
            ..vault_config(&server.address, auth.clone())
        };
        let vault = Vault::new(config)?;
        let written = vault
            .write(
                &"app/key".parse()?,
                &one("key", "planted"),
                Expected::Absent,
            )
            .await;
        let error = written.err().ok_or("it was not refused")?;
        assert!(error.is_write_denied(), "{client:?}: {error:?}");
        let text = chain(&error);
        assert!(
            text.contains("secret/data/app/key") && text.contains("create"),
            "{client:?}: {text}"
        );
        assert!(
            !format!("{text}{error:?}").contains("planted"),
            "{client:?}"
        );
    }
    Ok(())
}
