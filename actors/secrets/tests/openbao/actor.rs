//! The actor: what it publishes, what it says of itself, and what it answers.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dotmac_secrets::{
    Auth, Config, Expected, GetSecret, PutSecret, RefreshNow, SecretStore, SecretsError,
    Subscription, Takes, VaultConfig, Wanted, WantedSource, reason,
};
use dotmac_supervision::State;
use secrecy::ExposeSecret;

use crate::{
    root,
    running::Running,
    server::{OpenBao, Outcome},
    vault_config,
};

fn config(vault: Option<VaultConfig>, strict: bool, wanted: Vec<(&str, WantedSource)>) -> Config {
    Config {
        vault,
        wanted: wanted
            .into_iter()
            .map(|(key, source)| Wanted {
                key: key.to_owned(),
                source,
            })
            .collect(),
        strict,
        refresh_interval: Duration::from_secs(3600),
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
        database_role: None,
        revoke_all_within: Duration::from_secs(2),
    }
}

fn reference(text: &str) -> Outcome<WantedSource> {
    Ok(WantedSource::Reference(text.parse()?))
}

fn default_path(text: &str) -> Outcome<WantedSource> {
    Ok(WantedSource::DefaultPath(text.parse()?))
}

fn literal(text: &str) -> WantedSource {
    WantedSource::Literal(text.into())
}

#[actix::test]
async fn without_vault_the_configured_values_are_served_at_once() -> Outcome {
    let running = Running::start(config(
        None,
        true,
        vec![("A", literal("1")), ("B", default_path("b")?)],
    ))?;
    running.until_state(State::Ready).await?;
    assert_eq!(running.component()?.source, Some("environment"));
    assert_eq!(
        (running.secret("A").as_deref(), running.secret("B")),
        (Some("1"), None)
    );
    let answer = running
        .handle
        .call(GetSecret {
            reference: "vault:x".parse()?,
        })
        .await?;
    assert!(matches!(answer, Err(SecretsError::VaultOff { .. })));
    Ok(())
}

#[actix::test]
async fn everything_wanted_is_loaded_before_it_is_ready() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/database/password", "value=p"])?;
    server.bao(&["kv", "put", "secret/pair", "user=u", "pass=q"])?;
    let wanted = vec![
        ("PASSWORD", default_path("database/password")?),
        ("ABSENT", default_path("smtp/password")?),
        ("USER", reference("vault:pair#user")?),
        ("PASS", reference("vault:pair#pass")?),
        ("OWN", literal("mine")),
    ];
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        wanted,
    ))?;
    running.until_state(State::Ready).await?;
    assert_eq!(running.component()?.source, Some("vault"));
    for (key, value) in [
        ("PASSWORD", Some("p")),
        ("ABSENT", None),
        ("USER", Some("u")),
        ("PASS", Some("q")),
        ("OWN", Some("mine")),
    ] {
        assert_eq!(running.secret(key).as_deref(), value, "{key}");
    }
    Ok(())
}

#[actix::test]
async fn strict_waits_for_a_sealed_server_and_goes_on_by_itself() -> Outcome {
    let server = OpenBao::start_uninitialised()?;
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        vec![("A", default_path("a")?)],
    ))?;
    running
        .until("not_initialized", |c| {
            c.reason == Some(reason::NOT_INITIALIZED)
        })
        .await?;
    assert!(running.store.get().is_none());
    let said = server.bao(&["operator", "init", "-key-shares=1", "-key-threshold=1"])?;
    let key = said
        .lines()
        .find_map(|line| line.strip_prefix("Unseal Key 1: "))
        .ok_or("no unseal key")?;
    running
        .until("sealed", |c| c.reason == Some(reason::SEALED))
        .await?;
    server.bao(&["operator", "unseal", key])?;
    running
        .until("refused", |c| {
            c.reason == Some(reason::AUTHENTICATION_FAILED)
        })
        .await?;
    Ok(())
}

#[actix::test]
async fn elsewhere_it_goes_on_with_the_configured_values_until_vault_comes() -> Outcome {
    let server = OpenBao::start()?;
    let wanted = vec![("OWN", literal("mine")), ("A", reference("vault:a")?)];
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        false,
        wanted,
    ))?;
    running
        .until("degraded", |c| c.reason == Some(reason::PATH_MISSING))
        .await?;
    assert_eq!(running.component()?.source, Some("environment"));
    assert_eq!(
        (running.secret("OWN").as_deref(), running.secret("A")),
        (Some("mine"), None)
    );
    server.bao(&["kv", "put", "secret/a", "value=late"])?;
    running.until_state(State::Ready).await?;
    assert_eq!(running.secret("A").as_deref(), Some("late"));
    Ok(())
}

#[actix::test]
async fn a_refresh_sees_a_change_and_an_outage_keeps_the_last_values() -> Outcome {
    let mut server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/a", "value=1"])?;
    server.bao(&["kv", "put", "secret/b", "value=1"])?;
    let wanted = vec![("A", reference("vault:a")?), ("B", reference("vault:b")?)];
    let short = Config {
        refresh_interval: Duration::from_millis(100),
        ..config(Some(vault_config(&server.address, root())), true, wanted)
    };
    let running = Running::start(short)?;
    running.until_state(State::Ready).await?;
    let before: Arc<SecretStore> = running.store.get().ok_or("nothing published")?;
    server.bao(&["kv", "put", "secret/a", "value=2"])?;
    running.until_secret("A", "2").await?;
    let after = running.store.get().ok_or("nothing published")?;
    assert_eq!(before.changed_keys(&after), ["A"]);

    server.kill()?;
    running
        .until("unreachable", |c| c.reason == Some(reason::UNREACHABLE))
        .await?;
    assert_eq!(
        (running.component()?.state, running.component()?.source),
        (State::Degraded, Some("vault"))
    );
    assert_eq!(running.secret("A").as_deref(), Some("2"));
    Ok(())
}

#[actix::test]
async fn a_known_version_is_unchanged_and_a_new_one_notifies_only_its_consumers() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/pair", "user=u", "pass=1"])?;
    let wanted = vec![
        ("USER", reference("vault:pair#user")?),
        ("PASS", reference("vault:pair#pass")?),
    ];
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        wanted,
    ))?;
    let reported: Arc<Mutex<Vec<_>>> = Arc::default();
    for key in ["USER", "PASS"] {
        let telling = Arc::clone(&reported);
        running.feed.subscribe(Subscription {
            name: key,
            keys: vec![key.to_owned()],
            takes: Takes::Live(Arc::new(move |store| {
                let mut reported = telling.lock().unwrap_or_else(PoisonError::into_inner);
                reported.push((key, store.version(key)));
            })),
        });
    }
    let reported = || std::mem::take(&mut *reported.lock().unwrap_or_else(PoisonError::into_inner));
    let published = || running.store.get().ok_or("nothing published");
    running.until_state(State::Ready).await?;
    assert_eq!(reported(), [("USER", Some(1)), ("PASS", Some(1))]);

    let first = published()?;
    assert_eq!(running.handle.call(RefreshNow).await?, Ok(Vec::new()));
    assert!(Arc::ptr_eq(&first, &published()?), "published again");
    assert_eq!(reported(), []);

    server.bao(&["kv", "patch", "secret/pair", "pass=2"])?;
    let changed = running.handle.call(RefreshNow).await?;
    assert_eq!(changed, Ok(vec!["PASS".to_owned()]));
    assert_eq!(reported(), [("PASS", Some(2))]);

    server.bao(&["kv", "put", "secret/pair", "user=u", "pass=2"])?;
    assert_eq!(running.handle.call(RefreshNow).await?, Ok(Vec::new()));
    assert_eq!(reported(), [], "another version of the same values");
    assert_eq!(published()?.version("PASS"), Some(3));

    // All versions deleted: the count begins again, and version 3 would look like the known one.
    server.bao(&["kv", "metadata", "delete", "secret/pair"])?;
    for pass in ["7", "8", "9"] {
        server.bao(&[
            "kv",
            "put",
            "secret/pair",
            "user=u",
            &format!("pass={pass}"),
        ])?;
    }
    let changed = running.handle.call(RefreshNow).await?;
    assert_eq!(changed, Ok(vec!["PASS".to_owned()]));
    assert_eq!(reported(), [("PASS", Some(3))]);
    assert_eq!(running.secret("PASS").as_deref(), Some("9"));
    Ok(())
}

#[actix::test]
async fn without_versions_values_are_compared() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["secrets", "enable", "-version=1", "-path=plain", "kv"])?;
    server.bao(&["kv", "put", "plain/a", "value=1"])?;
    let vault = VaultConfig {
        mount: "plain".to_owned(),
        ..vault_config(&server.address, root())
    };
    let wanted = vec![("A", reference("vault:a")?)];
    let running = Running::start(config(Some(vault), true, wanted))?;
    running.until_state(State::Ready).await?;
    let first = running.store.get().ok_or("nothing published")?;
    assert_eq!(first.version("A"), None);
    server.bao(&["kv", "put", "plain/a", "value=1"])?;
    assert_eq!(running.handle.call(RefreshNow).await?, Ok(Vec::new()));
    let second = running.store.get().ok_or("nothing published")?;
    assert!(Arc::ptr_eq(&first, &second), "published again");
    server.bao(&["kv", "put", "plain/a", "value=2"])?;
    let changed = running.handle.call(RefreshNow).await?;
    assert_eq!(changed, Ok(vec!["A".to_owned()]));
    Ok(())
}

#[actix::test]
async fn refresh_now_answers_what_changed() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/a", "value=1"])?;
    let wanted = vec![("A", reference("vault:a")?), ("B", default_path("b")?)];
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        wanted,
    ))?;
    running.until_state(State::Ready).await?;
    assert_eq!(running.handle.call(RefreshNow).await?, Ok(Vec::new()));
    server.bao(&["kv", "put", "secret/a", "value=2"])?;
    server.bao(&["kv", "put", "secret/b", "value=new"])?;
    let (one, two) = futures_util::join!(
        running.handle.call(RefreshNow),
        running.handle.call(RefreshNow)
    );
    let mut changed = [one??, two??].concat();
    changed.sort();
    assert_eq!(
        changed,
        ["A", "B"],
        "two callers share reads: each change is reported once"
    );
    assert_eq!(running.secret("B").as_deref(), Some("new"));
    server.bao(&["operator", "seal"])?;
    let refreshed = running.handle.call(RefreshNow).await?;
    assert_eq!(
        refreshed.map_err(|error| error.reason()),
        Err(reason::SEALED)
    );
    Ok(())
}

#[actix::test]
async fn get_secret_reads_through_and_keeps_a_copy_for_a_while() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/x", "value=1", "other=2"])?;
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        Vec::new(),
    ))?;
    running.until_state(State::Ready).await?;
    let ask = async |text: &str| -> Outcome<Result<String, SecretsError>> {
        let answer = running
            .handle
            .call(GetSecret {
                reference: text.parse()?,
            })
            .await?;
        Ok(answer.map(|secret| secret.expose_secret().to_owned()))
    };
    assert_eq!(ask("vault:x").await?.as_deref(), Ok("1"));
    server.bao(&["kv", "put", "secret/x", "value=3", "other=4"])?;
    assert_eq!(ask("vault:x#other").await?.as_deref(), Ok("2"), "the copy");
    running.handle.call(RefreshNow).await??;
    assert_eq!(
        ask("vault:x#other").await?.as_deref(),
        Ok("4"),
        "a fresh one"
    );
    assert_eq!(
        ask("vault:absent").await?.map_err(|e| e.reason()),
        Err(reason::PATH_MISSING)
    );
    Ok(())
}

#[actix::test]
async fn a_policy_that_covers_nothing_is_a_failure_and_one_that_covers_less_is_not() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/app/key", "value=k"])?;
    server.policy(
        "app",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    server.policy(
        "elsewhere",
        r#"path "secret/data/elsewhere/*" { capabilities = ["read"] }"#,
    )?;
    let token = |policy: &str| {
        server.bao(&[
            "token",
            "create",
            &format!("-policy={policy}"),
            "-field=token",
        ])
    };
    let wanted = || -> Outcome<_> {
        Ok(vec![
            ("KEY", default_path("app/key")?),
            ("SMTP", default_path("smtp/password")?),
        ])
    };
    let start = |token: String| -> Outcome<Running> {
        let vault = vault_config(&server.address, Auth::Token(token.into()));
        Running::start(config(Some(vault), true, wanted()?))
    };
    let narrow = start(token("app")?)?;
    narrow.until_state(State::Ready).await?;
    assert_eq!(
        (narrow.secret("KEY").as_deref(), narrow.secret("SMTP")),
        (Some("k"), None)
    );
    let foreign = start(token("elsewhere")?)?;
    foreign
        .until("denied", |c| c.reason == Some(reason::PERMISSION_DENIED))
        .await?;
    assert!(foreign.store.get().is_none());
    Ok(())
}

#[actix::test]
async fn a_hanging_server_does_not_hold_the_thread() -> Outcome {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let vault = VaultConfig {
        timeout: Duration::from_millis(500),
        ..vault_config(&format!("http://{}", silent.local_addr()?), root())
    };
    let running = Running::start(config(Some(vault), false, vec![("A", literal("1"))]))?;
    running
        .until("timeout", |c| c.reason == Some(reason::TIMEOUT))
        .await?;
    assert_eq!(running.secret("A").as_deref(), Some("1"));
    // It is in a wait of 500 ms for most of the time, and answers other things meanwhile.
    for _ in 0..20 {
        let asked = Instant::now();
        let refreshing = running.handle.call(RefreshNow);
        let asking = running.handle.call(GetSecret {
            reference: "vault:x".parse()?,
        });
        futures_util::pin_mut!(refreshing, asking);
        drop(
            tokio::time::timeout(
                Duration::from_millis(20),
                futures_util::future::select(refreshing, asking),
            )
            .await,
        );
        assert!(
            asked.elapsed() < Duration::from_millis(400),
            "{:?}",
            asked.elapsed()
        );
    }
    let refreshed = running.handle.call(RefreshNow).await?;
    assert_eq!(
        refreshed.map_err(|error| error.reason()),
        Err(reason::TIMEOUT)
    );
    Ok(())
}

#[actix::test]
async fn what_was_written_is_what_is_read_from_then_on() -> Outcome {
    let server = OpenBao::start()?;
    server.bao(&["kv", "put", "secret/made", "key=first"])?;
    let running = Running::start(config(
        Some(vault_config(&server.address, root())),
        true,
        Vec::new(),
    ))?;
    running.until_state(State::Ready).await?;
    let get = async || -> Outcome<String> {
        let reference = "vault:made#key".parse()?;
        let secret = running.handle.call(GetSecret { reference }).await??;
        Ok(secret.expose_secret().to_owned())
    };
    assert_eq!(get().await?, "first");
    let put =
        async |value: &str, expected: Expected| -> Outcome<Result<Option<u64>, SecretsError>> {
            let put = PutSecret {
                path: "made".parse()?,
                fields: [("key".to_owned(), value.into())].into(),
                expected,
            };
            Ok(running.handle.call(put).await?)
        };
    assert_eq!(put("second", Expected::Version(1)).await??, Some(2));
    assert_eq!(get().await?, "second");
    let refused = put("third", Expected::Version(1)).await?;
    assert!(
        matches!(refused, Err(SecretsError::Changed { .. })),
        "{refused:?}"
    );
    assert_eq!(get().await?, "second");
    Ok(())
}
