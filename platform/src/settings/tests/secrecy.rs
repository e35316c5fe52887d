//! No secret in anything that is shown.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{Directory, load, specs};
use crate::settings::{Sources, as_env, as_json, as_table};

/// Everything that a reader could see of a load.
fn everything(environment: &[(&str, &str)]) -> String {
    match load(environment) {
        Ok(settings) => {
            let rows = settings.effective();
            let empty = load(&[]).unwrap();
            let mut text = format!("{settings:?} {:?}", empty.diff(&settings));
            write!(text, "{}{}", as_table(&rows), as_env(&rows)).unwrap();
            text + &as_json(&rows).unwrap()
        }
        Err(errors) => format!("{errors} {errors:?}"),
    }
}

const SECRET: &str = "Zq8xW3vT";

#[test]
fn what_is_loaded_from_shows_no_values() {
    let sources = Sources::new([("DOTMAC_DATABASE_PASSWORD", SECRET)]);
    assert!(!format!("{sources:?}").contains(SECRET));
}

#[test]
fn a_password_in_the_place_of_any_other_value_never_appears() {
    for spec in specs() {
        let url = format!("postgres://me:{SECRET}@db.example/dotmac");
        for key in [spec.key(), format!("{}_FILE", spec.key())] {
            let text = everything(&[(&key, &url)]);
            assert!(!text.contains(SECRET), "{key}: {text}");
        }
        // These are right values of a key that takes any text.
        for part in [
            format!("me:{SECRET}@db.example"),
            format!("host=db.example password={SECRET}"),
        ] {
            if let Err(errors) = load(&[(&spec.key(), &part)]) {
                assert!(!errors.to_string().contains(SECRET), "{errors}");
            }
        }
    }
}

#[test]
fn a_secret_in_the_place_of_its_file_never_appears() {
    let text = everything(&[("DOTMAC_DATABASE_PASSWORD_FILE", SECRET)]);
    assert!(
        text.contains("No such file") && !text.contains(SECRET),
        "{text}"
    );
}

#[test]
fn what_is_quoted_stays_in_its_line_and_is_cut() {
    let long = "x".repeat(100_000);
    for (key, value) in [
        ("DOTMAC_HOST", "a\nb\u{1b}[31mc"),
        ("DOTMAC_PORT", long.as_str()),
        ("DOTMAC_HTTP_KEEP_ALIVE", "1".repeat(100_000).as_str()),
        ("DOTMAC_TLS_CERT", long.as_str()),
        (format!("DOTMAC_{long}").as_str(), "1"),
        ("DOTMAC_A\nB\u{1b}", "1"),
    ] {
        let reported = load(&[(key, value)]).unwrap_err().to_string();
        let lines: Vec<&str> = reported.split('\n').skip(1).collect();
        assert_eq!(lines.len(), 1, "{reported}");
        assert!(
            reported.len() < 600 && !lines[0].contains(char::is_control),
            "{reported}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_secret_never_appears(before in ".{0,12}", after in ".{0,12}") {
        let value = format!("{before}{SECRET}{after}").replace('\0', "");
        for spec in specs().filter(|spec| spec.kind.secret) {
            let text = everything(&[
                (&spec.key(), &value),
                ("VAULT_ADDR", "http://127.0.0.1:8200"),
                ("DATABASE_URL", "postgres://localhost/dotmac"),
            ]);
            prop_assert!(!text.contains(SECRET) || value.starts_with("vault:"), "{}", text);
        }
    }

    #[test]
    fn a_password_in_a_url_never_appears(before in "[ -~]{0,8}", after in "[ -~]{0,8}") {
        let password = format!("{before}{SECRET}{after}");
        for environment in ["development", "production"] {
            for url in [
                format!("postgres://me:{password}@db.example/dotmac"),
                format!("postgres://me:{password}@db.example/dotmac?sslmode=disable"),
                // Without a host; an `@` would make one of what follows it.
                format!("postgres://me:{}", password.replace('@', "")),
                format!("postgres:me:{password}@db.example"),
                format!("mysql://me:{password}@db.example/dotmac"),
            ] {
                let text = everything(&[("DOTMAC_ENVIRONMENT", environment), ("DATABASE_URL", &url)]);
                prop_assert!(!text.contains(SECRET), "{url}: {text}");
            }
        }
        for key in ["DOTMAC_DATABASE_HOST", "PORT", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            let url = format!("mysql://me:{password}@db.example/dotmac");
            let text = everything(&[(key, &url)]);
            prop_assert!(!text.contains(SECRET), "{key}: {text}");
        }
        let url = format!("http://me:{password}@collector:4317");
        for key in ["DOTMAC_TELEMETRY_OTLP_ENDPOINT", "VAULT_ADDR"] {
            let text = everything(&[(key, &url)]);
            prop_assert!(!text.contains(SECRET), "{url}: {text}");
        }
    }

    #[test]
    fn no_environment_makes_loading_panic(
        key in "(DOTMAC_)?[A-Z_]{0,12}(_FILE)?",
        value in any::<String>(),
        others in proptest::collection::vec((0_usize..80, ".{0,20}"), 0..8),
    ) {
        let keys: Vec<String> = specs().map(|spec| spec.key()).collect();
        let mut environment = vec![(key.as_str(), value.as_str())];
        for (index, text) in &others {
            environment.push((&keys[index % keys.len()], text));
        }
        everything(&environment);
    }

    #[test]
    fn no_dotenv_makes_loading_panic_or_shows_its_text(text in "([A-Z_]{1,8}[= '\"$#{}\\\\\n]{0,6}){0,12}") {
        let directory = Directory::new();
        directory.write(".env", format!("{text}\n{SECRET} broken\n"));
        if let Err(errors) = directory.load(&[]) {
            prop_assert!(!errors.to_string().contains(SECRET));
        }
    }
}
