//! Tables, differences, and what is wanted from Vault.

use super::right;
use crate::settings::{WantedSecret, as_env, as_json, as_table};

const VAULT: [(&str, &str); 2] = [
    ("VAULT_ADDR", "http://127.0.0.1:8200"),
    ("VAULT_TOKEN", "root"),
];

#[test]
fn references_and_default_paths_are_wanted_from_vault() {
    let wanted = |more: &[(&str, &str)]| -> Vec<String> {
        let settings = right(&[&VAULT[..], more].concat());
        let text = |it: WantedSecret| format!("{} {} {}", it.key, it.reference, it.must_exist);
        settings.wanted_secrets().into_iter().map(text).collect()
    };
    assert_eq!(
        wanted(&[("DATABASE_URL", "sqlite:dotmac.db")]),
        Vec::<String>::new()
    );
    assert_eq!(
        wanted(&[("DATABASE_URL", "postgres://localhost/dotmac")]),
        [
            "DOTMAC_DATABASE_USERNAME vault:database/username false",
            "DOTMAC_DATABASE_PASSWORD vault:database/password false",
        ]
    );
    assert_eq!(
        wanted(&[
            ("DATABASE_URL", "postgres://me@localhost/dotmac"),
            ("DOTMAC_DATABASE_PASSWORD", "vault:app/db#password"),
        ]),
        ["DOTMAC_DATABASE_PASSWORD vault:app/db#password true"]
    );
    assert_eq!(
        wanted(&[("DATABASE_URL", "postgres://me:word@localhost/dotmac")]),
        Vec::<String>::new()
    );
    assert!(
        right(&[("DATABASE_URL", "postgres://me@localhost/dotmac")])
            .wanted_secrets()
            .is_empty()
    );
}

#[test]
fn a_secret_that_vault_is_asked_for_is_shown_as_its_reference() {
    let settings = right(
        &[
            &VAULT[..],
            &[("DATABASE_URL", "postgres://me@localhost/dotmac")],
        ]
        .concat(),
    );
    let rows = settings.effective();
    let password = rows
        .iter()
        .find(|row| row.key == "DOTMAC_DATABASE_PASSWORD")
        .unwrap();
    assert_eq!(password.value.as_deref(), Some("vault:database/password"));
    assert_eq!(password.origin, "default");
}

#[test]
fn a_difference_says_whether_it_needs_a_restart() {
    let old = right(&[("DATABASE_URL", "postgres://me:first-word@localhost/dotmac")]);
    let new = right(&[
        ("DATABASE_URL", "postgres://me:other-word@localhost/dotmac"),
        ("DOTMAC_TELEMETRY_LOG_LEVEL", "debug"),
    ]);
    assert!(old.diff(&old).is_empty());
    let changes = old.diff(&new);
    let shown: Vec<_> = changes
        .iter()
        .map(|it| (it.key.as_str(), it.old.as_str(), it.new.as_str(), it.live))
        .collect();
    let url = "postgres://me:[redacted]@localhost/dotmac";
    assert_eq!(
        shown,
        [
            ("DOTMAC_DATABASE_URL", url, url, true),
            ("DOTMAC_TELEMETRY_LOG_LEVEL", "info", "debug", true),
        ]
    );
    for elsewhere in [
        "postgres://me:first-word@localhost/another",
        "postgres://me:other-word@127.0.0.1/dotmac",
        "postgres://me:first-word@localhost:5433/dotmac",
        "postgres://me:first-word@localhost/dotmac?sslmode=require",
        "sqlite:dotmac.db",
    ] {
        let changes = old.diff(&right(&[("DATABASE_URL", elsewhere)]));
        assert!(!changes[0].live, "{elsewhere}: {changes:?}");
    }
}

#[test]
fn the_table_has_a_line_for_each_key() {
    let rows = right(&[("DOTMAC_APP_NAME", "my shop")]).effective();
    let table = as_table(&rows);
    assert_eq!(table.lines().count(), rows.len() + 1);
    let line = table
        .lines()
        .find(|line| line.starts_with("DOTMAC_APP_NAME "))
        .unwrap();
    assert!(
        line.contains("my shop") && line.ends_with("environment"),
        "{line}"
    );
}

#[test]
fn json_is_an_array_of_objects() {
    let text = as_json(&right(&VAULT).effective()).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let token = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["key"] == "DOTMAC_VAULT_TOKEN")
        .unwrap();
    assert_eq!(token["value"], "[redacted]");
    assert_eq!(token["origin"], "fallback VAULT_TOKEN");
    assert_eq!(token["default"], serde_json::Value::Null);
}

#[test]
fn the_env_form_can_be_loaded_again() {
    let settings = right(&[
        ("DOTMAC_APP_NAME", "it's a $shop # yes"),
        ("DOTMAC_PORT", "1234"),
    ]);
    let text = as_env(&settings.effective());
    let variables = dotenvy::from_read_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let given: Vec<_> = variables
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        given,
        [
            ("DOTMAC_APP_NAME", "it's a $shop # yes"),
            ("DOTMAC_PORT", "1234")
        ]
    );
    assert!(text.contains("\n#DOTMAC_HTTP_BODY_LIMIT=2MiB\n"));
    assert!(text.contains("\n#DOTMAC_TLS_CERT=\n"));
    assert!(settings.diff(&right(&given)).is_empty());
}
