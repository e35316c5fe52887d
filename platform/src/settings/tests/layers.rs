//! Where values come from, and which of two wins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Directory, load, mistake, right};
use crate::settings::{Catalogue, DatabaseTarget, DatabaseUrl, Settings, Sources};

fn origin(settings: &Settings, key: &str) -> String {
    settings
        .effective()
        .into_iter()
        .find(|row| row.key == key)
        .unwrap()
        .origin
}

#[test]
fn with_nothing_set_everything_has_its_default() {
    let settings = right(&[]);
    assert_eq!(settings.app.port, 8000);
    assert_eq!(settings.http.body_limit.bytes(), 2 * 1024 * 1024);
    assert!(!settings.vault.enabled);
    assert!(
        settings
            .effective()
            .iter()
            .all(|row| row.origin == "default")
    );
}

#[test]
fn the_environment_wins_over_dotenv_and_dotenv_over_the_default() {
    let directory = Directory::new();
    directory.write(
        ".env",
        "DOTMAC_PORT=1001\nexport DOTMAC_APP_NAME='from file'\n",
    );
    let settings = directory.load(&[("DOTMAC_PORT", "1002")]).unwrap();
    assert_eq!(settings.app.port, 1002);
    assert_eq!(settings.app.app_name, "from file");
    assert_eq!(origin(&settings, "DOTMAC_PORT"), "environment");
    assert_eq!(origin(&settings, "DOTMAC_APP_NAME"), ".env");
    assert!(std::env::var_os("DOTMAC_APP_NAME").is_none());
}

#[test]
fn dotenv_is_not_read_in_production() {
    let directory = Directory::new();
    directory.write(".env", "DOTMAC_PORT=1001\nthis is broken\n");
    let production = [
        ("DOTMAC_ENVIRONMENT", "production"),
        ("DATABASE_URL", "postgres://dotmac@db.example/dotmac"),
    ];
    assert_eq!(directory.load(&production).unwrap().app.port, 8000);
}

#[test]
fn dotenv_cannot_choose_production() {
    let directory = Directory::new();
    directory.write(
        ".env",
        "DOTMAC_ENVIRONMENT=production\nDOTMAC_DATABASE_ALLOW_SQLITE=true\n",
    );
    let errors = directory.load(&[]).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("production cannot be chosen in .env"),
        "{errors}"
    );
}

#[test]
fn broken_lines_of_dotenv_are_named_without_their_text() {
    let directory = Directory::new();
    directory.write(
        ".env",
        "# fine\nDOTMAC_PORT=1001\n\nhunter2 is no assignment\nDOTMAC_APP_NAME=two words\nDOTMAC_HOST=\"no end\n\n",
    );
    let errors = directory.load(&[]).unwrap_err();
    let keys: Vec<_> = errors.mistakes().iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [".env line 4", ".env line 5", ".env line 6"],
        "{errors}"
    );
    assert!(!errors.to_string().contains("hunter2"));
}

#[test]
fn a_key_twice_in_dotenv_is_a_mistake() {
    let directory = Directory::new();
    directory.write(".env", "DOTMAC_PORT=1\nDOTMAC_PORT=2\n");
    let errors = directory.load(&[]).unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "DOTMAC_PORT (.env): set a second time in line 2; remove one of the two lines"
    );
}

#[test]
fn a_directory_named_dotenv_is_left_alone() {
    let directory = Directory::new();
    std::fs::create_dir(directory.0.join(".env")).unwrap();
    assert!(directory.load(&[]).is_ok());
}

#[test]
fn a_value_may_come_from_a_file() {
    let directory = Directory::new();
    let path = directory.write("port", "1234\r\n");
    let settings = right(&[("DOTMAC_PORT_FILE", &path)]);
    assert_eq!(settings.app.port, 1234);
    assert_eq!(origin(&settings, "DOTMAC_PORT"), format!("file {path}"));
}

#[test]
fn a_key_and_its_file_twin_together_are_a_mistake() {
    assert_eq!(
        mistake(&[("DOTMAC_PORT", "1"), ("DOTMAC_PORT_FILE", "/nowhere")]),
        "DOTMAC_PORT (environment): both DOTMAC_PORT and DOTMAC_PORT_FILE are set; unset one of them"
    );
}

#[test]
fn the_environment_wins_over_a_file_that_dotenv_names() {
    let directory = Directory::new();
    directory.write(".env", "DOTMAC_PORT_FILE=/nowhere\n");
    assert_eq!(directory.load(&[("DOTMAC_PORT", "1")]).unwrap().app.port, 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_cause() {
    let missing = mistake(&[("DOTMAC_PORT_FILE", "/nowhere/port")]);
    assert!(
        missing.starts_with(
            "DOTMAC_PORT_FILE (environment): cannot read \"/nowhere/port\": No such file"
        ),
        "{missing}"
    );

    let directory = Directory::new();
    let binary = mistake(&[("DOTMAC_PORT_FILE", &directory.write("binary", [0xff, 0xfe]))]);
    assert!(binary.contains("it is not UTF-8"), "{binary}");
    let empty = mistake(&[("DOTMAC_PORT_FILE", &directory.write("empty", "\n"))]);
    assert!(empty.contains("the file is empty"), "{empty}");
    let endless = mistake(&[("DOTMAC_PORT_FILE", "/dev/zero")]);
    assert!(endless.contains("it is a device"), "{endless}");
    let long = mistake(&[(
        "DOTMAC_PORT_FILE",
        &directory.write("long", vec![b'1'; 1 << 21]),
    )]);
    assert!(long.contains("longer than 1 MiB"), "{long}");
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let settings = right(&[
        ("DOTMAC_PORT", ""),
        ("DOTMAC_PORT_FILE", ""),
        ("PORT", "1234"),
        ("DOTMAC_TLS_CERT", ""),
        ("DATABASE_URL", ""),
    ]);
    assert_eq!(settings.app.port, 1234);
    assert_eq!(settings.app.tls_cert, None);
}

#[test]
fn a_fallback_counts_only_where_the_own_key_is_not_set() {
    let settings = right(&[("PORT", "1234")]);
    assert_eq!(settings.app.port, 1234);
    assert_eq!(origin(&settings, "DOTMAC_PORT"), "fallback PORT");
    assert_eq!(
        right(&[("PORT", "1234"), ("DOTMAC_PORT", "4321")]).app.port,
        4321
    );

    let directory = Directory::new();
    directory.write(".env", "DOTMAC_PORT=4321\n");
    assert_eq!(directory.load(&[("PORT", "1234")]).unwrap().app.port, 4321);
}

#[test]
fn the_database_url_of_a_platform_yields_to_parts_of_our_own() {
    let settings = right(&[
        ("DATABASE_URL", "postgres://other@elsewhere/other"),
        ("DOTMAC_DATABASE_HOST", "db.example"),
        ("DOTMAC_DATABASE_NAME", "dotmac"),
        ("DOTMAC_DATABASE_USERNAME", "dotmac"),
    ]);
    let DatabaseTarget::Postgres(target) = settings.database.target() else {
        panic!("{:?}", settings.database.target());
    };
    assert_eq!((target.host.as_str(), target.port), ("db.example", 5432));
    assert!(matches!(settings.database.url, DatabaseUrl::Sqlite { .. }));
}

#[test]
fn a_wrong_fallback_is_named() {
    assert_eq!(
        mistake(&[("PORT", "http")]),
        "DOTMAC_PORT (fallback PORT): \"http\" is not a whole number from 0 to 65535; write e.g. 8000"
    );
}

#[test]
fn only_our_own_keys_must_be_utf8() {
    let broken = || OsString::from_vec(vec![0xff]);
    let with = |key: &str| {
        Settings::from_sources(
            &Catalogue::platform(),
            &Sources::new([(OsString::from(key), broken())]),
        )
    };
    assert!(with("SOMETHING").is_ok());
    let errors = with("DOTMAC_PORT").unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "DOTMAC_PORT (environment): the value is not UTF-8; write it in UTF-8"
    );
}

#[test]
fn computed_defaults_follow_what_they_depend_on() {
    let settings = right(&[
        ("DOTMAC_ENVIRONMENT", "staging"),
        ("DOTMAC_APP_NAME", "shop"),
    ]);
    assert_eq!(settings.shutdown.drain_delay.as_secs(), 5);
    assert_eq!(settings.telemetry.service_name, "shop");
    assert!(settings.cors.origins.is_empty());
    assert!(settings.app.docs_enabled);
    assert_eq!(right(&[]).shutdown.drain_delay.as_secs(), 0);
    assert!(
        right(&[])
            .cors
            .origins
            .iter()
            .any(|it| it.matches("http://localhost:3000"))
    );

    let on_terminal = Sources::new([("DOTMAC_HOST", "::1")]).with_terminal(true);
    let format = Settings::from_sources(&Catalogue::platform(), &on_terminal)
        .unwrap()
        .telemetry
        .log_format;
    assert_eq!(format.as_str(), "pretty");
    assert_eq!(right(&[]).telemetry.log_format.as_str(), "json");

    let vault = [("BAO_ADDR", "http://127.0.0.1:8200"), ("BAO_TOKEN", "root")];
    assert!(right(&vault).vault.enabled);
}

#[test]
fn encryption_of_the_database_depends_on_where_it_is() {
    let mode = |url: &str| right(&[("DATABASE_URL", url)]).database.sslmode.to_string();
    assert_eq!(mode("postgres://me@localhost/dotmac"), "prefer");
    assert_eq!(mode("postgres://me@[::1]:5433/dotmac"), "prefer");
    let socket = [
        ("DOTMAC_DATABASE_HOST", "/var/run/postgresql"),
        ("DOTMAC_DATABASE_NAME", "dotmac"),
        ("DOTMAC_DATABASE_USERNAME", "me"),
    ];
    assert_eq!(right(&socket).database.sslmode.as_str(), "prefer");
    assert_eq!(mode("postgres://me@db.example/dotmac"), "verify-full");
    assert_eq!(
        mode("postgres://me@db.example/dotmac?sslmode=require"),
        "require"
    );
    assert!(
        load(&[
            (
                "DATABASE_URL",
                "postgres://me@db.example/dotmac?sslmode=require"
            ),
            ("DOTMAC_DATABASE_SSLMODE", "disable"),
        ])
        .is_err()
    );
}
