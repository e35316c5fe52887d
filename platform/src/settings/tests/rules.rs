//! Rules between settings.

use super::{load, mistake, mistakes, right};

/// A production that is right, and what a test adds to it.
fn production<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut environment = vec![
        ("DOTMAC_ENVIRONMENT", "production"),
        (
            "DOTMAC_DATABASE_URL",
            "postgres://dotmac:Ys7kP2mQ9@db.example/dotmac",
        ),
    ];
    environment.retain(|(key, _)| more.iter().all(|(other, _)| key != other));
    environment.extend_from_slice(more);
    environment
}

#[test]
fn all_mistakes_are_reported_at_once_and_sorted() {
    let mistakes = mistakes(&[
        ("DOTMAC_PORT", "70000"),
        ("DOTMAC_HTTP_BODY_LIMIT", "2"),
        ("DOTMAC_TLS_CERT", "/cert.pem"),
        ("DOTMAC_POTR", "1"),
    ]);
    let keys: Vec<_> = mistakes.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "DOTMAC_HTTP_BODY_LIMIT",
            "DOTMAC_PORT",
            "DOTMAC_POTR",
            "DOTMAC_TLS_CERT"
        ]
    );
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_one() {
    assert_eq!(
        mistake(&[("DOTMAC_DATABASE_POOLSIZE", "5")]),
        "DOTMAC_DATABASE_POOLSIZE (environment): there is no such key; did you mean DOTMAC_DATABASE_POOL_SIZE?"
    );
    assert!(
        mistake(&[("DOTMAC_DATABASE_PASWORD_FILE", "/x")])
            .ends_with("did you mean DOTMAC_DATABASE_PASSWORD_FILE?")
    );
    assert!(mistake(&[("DOTMAC_ZZZZZZ", "5")]).ends_with("the command `config` lists all keys"));
    assert!(mistake(&[("DOTMAC_SERVICE_HOST", "10.0.0.1")]).contains("enableServiceLinks"));
    assert!(mistake(&[("DOTMAC_A\nB", "")]).contains("DOTMAC_A\\nB"));
}

#[test]
fn what_cargo_sets_for_the_programs_that_it_runs_is_no_unknown_key() {
    let of_the_build = [
        ("DOTMAC_MIGRATIONS", "tracked"),
        ("DOTMAC_BUILD_REVISION", "3f2c1ab"),
        ("DOTMAC_BUILD_TIME", "2026-11-28T12:00:00Z"),
    ];
    assert!(load(&of_the_build).is_ok());
    assert!(mistake(&[("DOTMAC_BUILD", "1")]).contains("there is no such key"));
}

#[test]
fn certificate_and_key_come_together() {
    for name in ["DOTMAC_TLS", "DOTMAC_DATABASE_CLIENT"] {
        let (cert, key) = (&*format!("{name}_CERT"), &*format!("{name}_KEY"));
        assert!(mistake(&[(cert, "/c")]).ends_with(&format!("set {key} too")));
        assert!(mistake(&[(key, "/k")]).ends_with(&format!("set {cert} too")));
        let files = (certificate("one.pem"), certificate("one.key"));
        assert!(load(&[(key, &*files.1), (cert, &*files.0)]).is_ok());
        let other = certificate("two.key");
        assert!(mistake(&[(key, &*other), (cert, &*files.0)]).contains("cannot be used together"));
        // A file that exists and cannot be read is reported like a missing one: with the system's error.
        let directory = certificate("");
        assert!(mistake(&[(key, &*directory), (cert, &*files.0)]).contains("cannot read"));
    }
}

/// A file of those that HTTPS is tested with.
fn certificate(name: &str) -> String {
    format!(
        "{}/src/http/tests/certificates/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn a_file_of_certificates_is_looked_at_before_it_is_needed() {
    for name in ["DOTMAC_TLS", "DOTMAC_DATABASE_CLIENT"] {
        let (cert, key) = (&*format!("{name}_CERT"), &*format!("{name}_KEY"));
        assert_eq!(
            mistake(&[(key, "/nowhere/k"), (cert, "/nowhere/c")]),
            format!(
                "{cert} (environment): cannot read \"/nowhere/c\": No such file or directory (os error 2); \
                 name PEM files that this user may read: the certificate chain, and the private key that belongs to it"
            )
        );
        // A path is no more trusted than any other value.
        let odd = mistake(&[(key, "/nowhere/k"), (cert, "/nowhere/c\u{1b}[2J")]);
        assert!(odd.contains("\"/nowhere/c\\u{1b}[2J\""), "{odd}");
        let long = mistake(&[(key, "/nowhere/k"), (cert, &*"/c".repeat(1000))]);
        assert!(
            long.len() < 500 && long.contains("/c…\": No such file"),
            "{long}"
        );
    }
    let key = certificate("one.key");
    for name in ["DOTMAC_VAULT_CA_CERT", "DOTMAC_DATABASE_CA_CERT"] {
        assert!(mistake(&[(name, "/nowhere/ca")]).contains("cannot read \"/nowhere/ca\""));
        assert!(mistake(&[(name, &*key)]).contains("holds no certificate"));
        assert!(load(&[(name, &*certificate("one.pem"))]).is_ok());
    }
}

#[test]
fn a_rule_says_nothing_about_a_key_that_is_wrong_by_itself() {
    let environment = production(&[("DOTMAC_DATABASE_URL", "postgres//oops")]);
    assert_eq!(mistakes(&environment).len(), 1);
}

#[test]
fn durations_must_fit_together() {
    assert!(mistake(&[("DOTMAC_SHUTDOWN_DRAIN_DELAY", "30s")]).contains("leaves nothing"));
    let hang_after = |text| [("DOTMAC_SUPERVISION_HANG_AFTER", text)];
    assert!(mistake(&hang_after("1999ms")).contains("every pause would count as a hang"));
    right(&hang_after("2s"));
    assert!(mistake(&[("DOTMAC_SUPERVISION_BACKOFF_MIN", "11s")]).contains("is longer than"));
}

#[test]
fn a_crash_loop_must_reach_its_end() {
    // 100 ms, 200 ms, ... 1.6 s: 3.1 s before the fifth restart.
    assert!(load(&[("DOTMAC_SUPERVISION_PERIOD", "3200ms")]).is_ok());
    let text = mistake(&[("DOTMAC_SUPERVISION_PERIOD", "3100ms")]);
    assert!(text.contains("would never end the process"), "{text}");
    assert!(load(&[("DOTMAC_SUPERVISION_INTENSITY", "0")]).is_ok());
}

#[test]
fn vault_needs_an_address_and_what_its_login_takes() {
    assert!(
        mistakes(&[("DOTMAC_VAULT_ENABLED", "true")])
            .iter()
            .any(|it| it.key == "DOTMAC_VAULT_ADDR")
    );
    let addr = ("VAULT_ADDR", "http://127.0.0.1:8200");
    assert!(mistake(&[addr]).starts_with("DOTMAC_VAULT_TOKEN: Vault is enabled"));
    let approle = [
        addr,
        ("DOTMAC_VAULT_AUTH", "approle"),
        ("DOTMAC_VAULT_ROLE_ID", "dotmac"),
    ];
    assert!(mistake(&approle).starts_with("DOTMAC_VAULT_SECRET_ID: Vault is enabled"));
    assert!(load(&[addr, ("DOTMAC_VAULT_ENABLED", "false")]).is_ok());
    let path = [("VAULT_ADDR", "https://a/vault"), ("VAULT_TOKEN", "root")];
    assert!(mistake(&path).contains("must not have a path"));
    let reference = [addr, ("DOTMAC_VAULT_TOKEN", "vault:token")];
    assert!(mistake(&reference).contains("this is what opens Vault"));
}

#[test]
fn each_login_names_what_it_lacks() {
    let addr = ("DOTMAC_VAULT_ADDR", "https://vault.example:8200");
    for (auth, lacks) in [
        ("kubernetes", "DOTMAC_VAULT_ROLE"),
        ("jwt", "DOTMAC_VAULT_JWT"),
    ] {
        let text = mistake(&[addr, ("DOTMAC_VAULT_AUTH", auth)]);
        assert!(text.starts_with(lacks), "{text}");
    }
    let cert = [addr, ("DOTMAC_VAULT_AUTH", "cert")];
    let keys: Vec<_> = mistakes(&cert).into_iter().map(|it| it.key).collect();
    assert_eq!(
        keys,
        ["DOTMAC_VAULT_CLIENT_CERT", "DOTMAC_VAULT_CLIENT_KEY"]
    );
    let plain = [
        ("DOTMAC_VAULT_ADDR", "http://127.0.0.1:8200"),
        ("DOTMAC_VAULT_AUTH", "cert"),
        ("DOTMAC_VAULT_CLIENT_CERT", "/c"),
        ("DOTMAC_VAULT_CLIENT_KEY", "/k"),
    ];
    assert!(mistake(&plain).ends_with("use https"));
    let pod = [
        addr,
        ("DOTMAC_VAULT_AUTH", "kubernetes"),
        ("DOTMAC_VAULT_ROLE", "app"),
    ];
    let mount = right(&pod).vault.auth_mount;
    assert_eq!(mount.as_ref().map(|it| it.as_str()), Some("kubernetes"));
}

#[test]
fn a_database_role_needs_vault_and_postgresql_and_brings_user_and_password_alone() {
    let role = ("DOTMAC_DATABASE_VAULT_ROLE", "dotmac");
    let vault = [
        ("VAULT_ADDR", "http://127.0.0.1:8200"),
        ("VAULT_TOKEN", "root"),
    ];
    let server = ("DOTMAC_DATABASE_URL", "postgres://127.0.0.1/dotmac");
    assert!(mistake(&[role, server]).contains("which is not enabled"));
    let [addr, token] = vault;
    assert!(mistake(&[role, addr, token]).contains("SQLite has no users"));
    let named = (
        "DOTMAC_DATABASE_URL",
        "postgres://somebody@127.0.0.1/dotmac",
    );
    assert!(mistake(&[role, addr, token, named]).contains("the role brings it"));
    let settings = right(&[role, addr, token, server]);
    assert!(settings.wanted_secrets().is_empty());
    let climb = ("DOTMAC_DATABASE_VAULT_ROLE", "../sys/mounts");
    assert!(mistake(&[climb, addr, token, server]).starts_with("DOTMAC_DATABASE_VAULT_ROLE"));
}

#[test]
fn a_reference_needs_vault() {
    let text = mistake(&[
        ("DATABASE_URL", "postgres://me@localhost/dotmac"),
        ("DOTMAC_DATABASE_PASSWORD", "vault:db#password"),
    ]);
    assert!(
        text.contains("vault:db#password is in Vault, which is not enabled"),
        "{text}"
    );
}

#[test]
fn a_database_is_given_by_url_or_by_parts() {
    let url = ("DOTMAC_DATABASE_URL", "postgres://me@db.example/dotmac");
    let host = ("DOTMAC_DATABASE_HOST", "db.example");
    let name = ("DOTMAC_DATABASE_NAME", "dotmac");
    let user = ("DOTMAC_DATABASE_USERNAME", "me");
    assert!(load(&[host, name, user]).is_ok());
    assert!(
        mistake(&[url, host])
            .starts_with("DOTMAC_DATABASE_URL (environment): DOTMAC_DATABASE_HOST is set too")
    );
    assert!(mistake(&[url, name]).contains("the URL already says it"));
    assert!(mistake(&[host, user]).starts_with("DOTMAC_DATABASE_NAME: a server is given"));
    assert!(mistake(&[name]).contains("no server is given"));
    assert!(mistake(&[host, name]).contains("needs to know who connects"));
    assert!(mistake(&[url, user]).contains("the URL says it too"));
    assert!(mistake(&[user]).contains("SQLite has no users"));
}

#[test]
fn every_origin_with_credentials_is_refused_everywhere() {
    let both = [
        ("DOTMAC_CORS_ORIGINS", "*"),
        ("DOTMAC_CORS_CREDENTIALS", "true"),
    ];
    assert!(mistake(&both).contains("every web page"));
    assert!(load(&both[..1]).is_ok());
}

#[test]
fn production_refuses_sqlite_unless_it_is_allowed() {
    let bare = [("DOTMAC_ENVIRONMENT", "production")];
    assert!(mistake(&bare).starts_with("DOTMAC_DATABASE_URL: SQLite is refused in production"));
    assert!(load(&[bare[0], ("DOTMAC_DATABASE_ALLOW_SQLITE", "true")]).is_ok());
}

#[test]
fn production_refuses_a_database_in_the_clear() {
    right(&production(&[]));
    for mode in ["disable", "prefer"] {
        assert!(
            mistake(&production(&[("DOTMAC_DATABASE_SSLMODE", mode)])).contains("in the clear")
        );
        right(&production(&[
            ("DOTMAC_DATABASE_SSLMODE", mode),
            ("DOTMAC_DATABASE_URL", "postgres://dotmac@127.0.0.1/dotmac"),
        ]));
    }
    right(&production(&[("DOTMAC_DATABASE_SSLMODE", "require")]));
    let url = "postgres://dotmac@db.example/dotmac?sslmode=prefer";
    let text = mistake(&production(&[("DOTMAC_DATABASE_URL", url)]));
    assert!(
        text.starts_with("DOTMAC_DATABASE_URL (environment): sslmode prefer may"),
        "{text}"
    );
}

#[test]
fn production_refuses_weak_secrets() {
    for weak in ["postgres", "password", "ChangeMe", "short", "xxxxxxxxxx"] {
        let url = format!("postgres://dotmac:{weak}@db.example/dotmac");
        let text = mistake(&production(&[("DOTMAC_DATABASE_URL", &url)]));
        assert!(
            text.starts_with("DOTMAC_DATABASE_URL (environment): the secret is"),
            "{text}"
        );
    }
    let vault = [
        ("VAULT_ADDR", "https://vault.example"),
        ("VAULT_TOKEN", "root"),
    ];
    assert!(
        mistake(&production(&vault))
            .starts_with("DOTMAC_VAULT_TOKEN (fallback VAULT_TOKEN): the secret is")
    );
    let approle = |secret_id| {
        production(&[
            ("VAULT_ADDR", "https://vault.example"),
            ("DOTMAC_VAULT_AUTH", "approle"),
            ("DOTMAC_VAULT_ROLE_ID", "dotmac"),
            ("DOTMAC_VAULT_SECRET_ID", secret_id),
            // Of a command line; not what the daemon logs in with.
            ("BAO_TOKEN", "root"),
        ])
    };
    right(&approle("b6f3a4de-long-and-random"));
    assert!(mistake(&approle("short")).starts_with("DOTMAC_VAULT_SECRET_ID"));
}

#[test]
fn production_refuses_vault_over_plain_http_to_another_host() {
    let token = ("VAULT_TOKEN", "hvs.CAESIJ2mPqLr");
    let other = [("VAULT_ADDR", "http://vault.example:8200"), token];
    assert!(mistake(&production(&other)).contains("plain http"));
    right(&production(&[
        ("VAULT_ADDR", "http://127.0.0.1:8200"),
        token,
    ]));
    right(&other);
}

#[test]
fn a_key_that_keys_are_derived_from_is_long_everywhere() {
    let short = "a".repeat(31);
    let text = mistake(&[("DOTMAC_APP_SECRET_KEY", &*short)]);
    assert!(
        text.contains("the secret has 31 characters; it must have at least 32"),
        "{text}"
    );
    assert!(!text.contains(&short), "{text}");
    right(&[("DOTMAC_APP_SECRET_KEY", "0123456789abcdef0123456789abcdef")]);
}

#[test]
fn a_master_key_is_32_random_bytes_in_base64() {
    let key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    let other = "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";
    right(&[("DOTMAC_APP_MASTER_KEY", key)]);
    right(&[("DOTMAC_APP_MASTER_KEY", &format!("{other},{key}"))]);
    let wrong = mistake(&[("DOTMAC_APP_MASTER_KEY", &format!("{key},sekret"))]);
    assert!(wrong.starts_with("DOTMAC_APP_MASTER_KEY"), "{wrong}");
    assert!(wrong.contains("key 2 is not 32 bytes in base64"), "{wrong}");
    assert!(
        wrong.contains("openssl rand -base64 32") && !wrong.contains("sekret"),
        "{wrong}"
    );
}
