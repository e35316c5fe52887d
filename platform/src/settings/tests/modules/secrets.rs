//! Secrets of modules: needed, wanted from Vault, and never shown.

use super::{PRODUCTION, catalogue, load, mistake, notes};
use crate::settings::as_table;

#[test]
fn a_needed_secret_that_is_not_set_is_refused_in_production_and_warned_of_elsewhere() {
    let missing = ("DOTMAC_NOTES_SIGNING_KEY", "");
    let reason = "DOTMAC_NOTES_SIGNING_KEY: `notes` needs this secret, and it is not set; \
                set it or its _FILE twin, or enable Vault and put it at `notes/signing_key` there";
    assert_eq!(mistake(&[&PRODUCTION[..], &[missing]].concat()), reason);
    for environment in ["development", "staging", "test"] {
        let settings = load(&[missing, ("DOTMAC_ENVIRONMENT", environment)]).unwrap();
        let warnings: Vec<_> = settings
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(warnings, [reason], "{environment}");
        assert!(!notes(&settings).signing_key.is_given());
    }
    assert!(load(&[]).unwrap().warnings().is_empty());
}

#[test]
fn a_rule_can_need_a_secret() {
    let s3 = [
        ("DOTMAC_NOTES_STORE", "s3"),
        ("DOTMAC_NOTES_HOST", "s3.example"),
    ];
    let reason = "DOTMAC_NOTES_ACCESS_KEY: DOTMAC_NOTES_STORE=s3 needs it; \
                set it or its _FILE twin, or enable Vault and put it at `notes/access_key` there";
    assert_eq!(load(&s3).unwrap().warnings()[0].to_string(), reason);
    assert_eq!(mistake(&[&PRODUCTION[..], &s3].concat()), reason);
    // The name of a user may be short.
    let given = [&PRODUCTION[..], &s3, &[("DOTMAC_NOTES_ACCESS_KEY", "me")]].concat();
    assert!(load(&given).is_ok());
}

#[test]
fn production_refuses_a_weak_secret_of_a_module() {
    assert_eq!(
        mistake(&[&PRODUCTION[..], &[("DOTMAC_NOTES_SIGNING_KEY", "changeme")]].concat()),
        "DOTMAC_NOTES_SIGNING_KEY (environment): the secret is a well-known default, which production refuses; give a long random one"
    );
}

#[test]
fn secrets_of_modules_are_wanted_from_vault_or_given_to_those_who_follow_them() {
    let wanted = |more: &[(&str, &str)]| {
        let vault = [
            ("VAULT_ADDR", "http://127.0.0.1:8200"),
            ("VAULT_TOKEN", "root"),
        ];
        let settings = load(&[&vault[..], more].concat()).unwrap();
        let wanted: Vec<_> = settings
            .wanted_secrets()
            .into_iter()
            .map(|it| (it.key, it.reference.to_string(), it.must_exist))
            .collect();
        assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
        let literals = settings
            .literals_of_modules()
            .map(|(key, _)| key.to_owned());
        (wanted, literals.collect::<Vec<_>>())
    };
    let secret = |key: &str, reference: &str, must_exist| {
        (
            format!("DOTMAC_NOTES_{key}"),
            format!("vault:notes/{reference}"),
            must_exist,
        )
    };
    let access = secret("ACCESS_KEY", "access_key", false);
    assert_eq!(
        wanted(&[]),
        (
            vec![access.clone()],
            vec!["DOTMAC_NOTES_SIGNING_KEY".to_owned()]
        )
    );
    assert_eq!(
        wanted(&[("DOTMAC_NOTES_SIGNING_KEY", "")]),
        (
            vec![secret("SIGNING_KEY", "signing_key", true), access.clone()],
            vec![]
        )
    );
    assert_eq!(
        wanted(&[("DOTMAC_NOTES_SIGNING_KEY", "vault:notes/other#key")]),
        (
            vec![secret("SIGNING_KEY", "other#key", true), access],
            vec![]
        )
    );
    let s3 = [
        ("DOTMAC_NOTES_STORE", "s3"),
        ("DOTMAC_NOTES_HOST", "s3.example"),
    ];
    assert_eq!(wanted(&s3).0, [secret("ACCESS_KEY", "access_key", true)]);
}

#[test]
fn every_key_of_a_module_is_shown_redacted_if_it_is_a_secret() {
    let secret = "Zq8xW3vT";
    let keys = catalogue().keys().map(|key| key.spec).collect::<Vec<_>>();
    for spec in keys
        .iter()
        .filter(|spec| spec.kind.secret && spec.is_of("NOTES_"))
    {
        let text = match load(&[(&spec.key(), secret)]) {
            Ok(settings) => format!("{settings:?} {}", as_table(&settings.effective())),
            Err(errors) => errors.to_string(),
        };
        assert!(!text.contains(secret), "{text}");
    }
}
