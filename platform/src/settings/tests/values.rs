//! How single values are written.

use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use url::Url;

use super::{mistake, specs};
use crate::settings::Setting;
use crate::settings::types::{
    ByteSize, CorsOrigin, DatabaseUrl, HostName, HostPattern, LogFilter, SecretReference,
    SecretSetting,
};

fn parses<T: Setting>(text: &str) -> bool {
    T::parse(text).is_ok()
}

#[test]
fn a_wrong_value_is_reported_with_a_valid_example() {
    assert_eq!(
        mistake(&[("DOTMAC_DATABASE_POOL_SIZE", "many")]),
        "DOTMAC_DATABASE_POOL_SIZE (environment): \"many\" is not a whole number from 1 to 1000; write e.g. 10"
    );
    assert_eq!(
        mistake(&[("DOTMAC_HTTP_KEEP_ALIVE", "75")]),
        "DOTMAC_HTTP_KEEP_ALIVE (environment): \"75\" is not a duration with its unit from 0s to 1h: the unit is missing; write 75s for seconds, 75ms for milliseconds"
    );
    assert_eq!(
        mistake(&[("DOTMAC_ENVIRONMENT", "prodution")]),
        "DOTMAC_ENVIRONMENT (environment): \"prodution\" is not one of development, staging, production, test; did you mean production?"
    );
    assert_eq!(
        mistake(&[("DOTMAC_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, 10.0.0.0/99")]),
        "DOTMAC_HTTP_TRUSTED_PROXIES (environment): \"10.0.0.0/8, 10.0.0.0/99\" is not a comma-separated list, each item a network or an address: item 2: not as expected; write e.g. 10.0.0.0/8"
    );
    assert!(mistake(&[("DOTMAC_PORT", "tcp://10.0.0.1:80")]).contains("enableServiceLinks"));
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(Duration::parse("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(Duration::parse("1h 30m"), Ok(Duration::from_secs(5400)));
    assert_eq!(Duration::parse("0s"), Ok(Duration::ZERO));
    for wrong in [
        "5",
        "0",
        "",
        "s",
        "-5s",
        "5 parsecs",
        "99999999999999999999s",
    ] {
        assert!(!parses::<Duration>(wrong), "{wrong:?}");
    }
}

#[test]
fn sizes_need_a_unit() {
    let bytes = |text| ByteSize::parse(text).map(ByteSize::bytes);
    assert_eq!(bytes("2MiB"), Ok(2_097_152));
    assert_eq!(bytes("1 kb"), Ok(1_000));
    assert_eq!(bytes("0B"), Ok(0));
    for wrong in [
        "5",
        "",
        "MiB",
        "-1MiB",
        "1TiBi",
        "1.5MiB",
        "99999999999999999GiB",
    ] {
        assert!(bytes(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn lists_ignore_white_space_and_empty_items() {
    let networks = Vec::<IpNet>::parse(" 10.0.0.0/8 ,,192.168.1.7, ").unwrap();
    assert_eq!(networks.len(), 2);
    assert_eq!(networks[1].prefix_len(), 32);
    assert_eq!(Vec::<IpNet>::parse(""), Ok(Vec::new()));
}

#[test]
fn a_list_that_is_set_holds_an_item() {
    // With none, requests to any host would be let in, and telemetry sent without its headers.
    for key in [
        "DOTMAC_HTTP_TRUSTED_HOSTS",
        "DOTMAC_HTTP_TRUSTED_PROXIES",
        "DOTMAC_CORS_ORIGINS",
        "DOTMAC_TELEMETRY_OTLP_HEADERS",
        "DOTMAC_TELEMETRY_LOG_LEVEL",
        "OTEL_RESOURCE_ATTRIBUTES",
    ] {
        for empty in [",", " , ", ",,,", " "] {
            let reported = mistake(&[(key, empty)]);
            assert!(reported.contains(key), "{reported}");
        }
    }
    assert_eq!(
        mistake(&[("DOTMAC_HTTP_TRUSTED_HOSTS", ",")]),
        "DOTMAC_HTTP_TRUSTED_HOSTS (environment): \",\" is not a comma-separated list, each item a host name, `*.` allowed in front: it holds no item; list an item, or unset it"
    );
}

#[test]
fn an_origin_names_one_host_or_all_origins() {
    for wrong in [
        "https://*",
        "https://*:*",
        "http://*:8080",
        "https://*.example.com",
        "https://app.*",
        "https://a+b",
    ] {
        let reported = mistake(&[("DOTMAC_CORS_ORIGINS", wrong)]);
        assert!(reported.contains("item 1: "), "{reported}");
    }
    for right in [
        "*",
        "http://[::1]:*",
        "https://bücher.example",
        "https://my_app.example.",
    ] {
        assert!(parses::<CorsOrigin>(right), "{right:?}");
    }
}

#[test]
fn a_path_is_one_line_that_the_system_would_take() {
    for wrong in ["a\nb", "a\u{1b}[31m", "\0", &"/a".repeat(3000)] {
        for (key, value) in [
            ("DOTMAC_TLS_CERT", wrong.to_owned()),
            ("DOTMAC_PORT_FILE", wrong.to_owned()),
            (
                "DATABASE_URL",
                format!(
                    "sqlite:{}",
                    wrong
                        .replace('\n', "%0A")
                        .replace('\u{1b}', "%1B")
                        .replace('\0', "%00")
                ),
            ),
        ] {
            let reported = super::mistakes(&[(key, &value)])[0].to_string();
            assert!(
                reported.len() < 500 && !reported.contains(char::is_control),
                "{reported}"
            );
        }
    }
}

#[test]
fn hosts_have_neither_scheme_nor_port() {
    for right in ["localhost", "0.0.0.0", "::", "db-1.example.com", "my_db"] {
        assert!(parses::<HostName>(right), "{right:?}");
    }
    for wrong in [
        "", "http://a", "a:80", "a b", "-a", "a..b", "[::1]", "1.2.3", "a/b", "é",
    ] {
        assert!(!parses::<HostName>(wrong), "{wrong:?}");
    }
    let pattern = HostPattern::parse("*.Example.com").unwrap();
    assert!(pattern.matches("a.example.com") && pattern.matches("A.B.EXAMPLE.COM"));
    assert!(!pattern.matches("example.com") && !pattern.matches("badexample.com"));
    assert!(HostPattern::parse("[::1]").unwrap().matches("[::1]"));
    assert!(!parses::<HostPattern>("*") && !parses::<HostPattern>("*.[::1]"));
}

#[test]
fn a_log_filter_knows_its_levels() {
    for right in [
        "info",
        "INFO",
        "off",
        "info,actix_web=debug",
        "warn,my_crate::db=trace",
    ] {
        assert!(parses::<LogFilter>(right), "{right:?}");
    }
    for wrong in ["wran", "", "info,hyper", "a=b=c", "info,hyper=loud", " "] {
        assert!(!parses::<LogFilter>(wrong), "{wrong:?}");
    }
}

#[test]
fn white_space_in_a_log_filter_does_not_count() {
    let filter = LogFilter::parse(" info, hyper=debug ").unwrap();
    assert_eq!(&*filter, "info,hyper=debug");
    // EnvFilter panics at this one.
    LogFilter::parse("\u{2000}\u{11100}=")
        .map(drop)
        .unwrap_or_default();
}

#[test]
fn cors_origins_are_compared_as_browsers_do() {
    let origin = |text| CorsOrigin::parse(text).unwrap();
    assert!(origin("https://app.example.com").matches("https://app.example.com"));
    assert!(origin("https://app.example.com:443").matches("https://app.example.com"));
    assert!(!origin("https://app.example.com").matches("http://app.example.com"));
    assert!(!origin("https://app.example.com").matches("https://app.example.com.evil.com"));
    assert!(!origin("https://app.example.com").matches("null"));
    assert!(origin("http://localhost:*").matches("http://localhost:3000"));
    assert!(origin("http://localhost:*").matches("http://localhost"));
    assert!(!origin("http://localhost:*").matches("http://localhost.evil.com:3000"));
    assert!(!origin("http://localhost:*").matches("http://localhost:3000@evil.com"));
    for wrong in [
        "",
        "example.com",
        "https://a/",
        "https://a/b",
        "ftp://a",
        "https://u@a",
        "https://a:*:*",
        "https://a:1:*",
        "https://*.a?b",
    ] {
        assert!(!parses::<CorsOrigin>(wrong), "{wrong:?}");
    }
}

#[test]
fn a_reference_cannot_leave_its_mount() {
    let reference: SecretReference = "vault:database/password#value".parse().unwrap();
    assert_eq!(reference.path.as_str(), "database/password");
    assert_eq!(reference.field.as_deref(), Some("value"));
    assert_eq!(reference.to_string(), "vault:database/password#value");
    let wrong = [
        "vault:",
        "vault:/a",
        "vault:a/",
        "vault:a//b",
        "vault:../sys",
        "vault:a/../b",
        "vault:a/.",
        "vault:a#",
        "vault:a#b#c",
        "vault:a b",
        "vault:a%2e",
        "vault:a?b",
        "vault:a\\b",
        "a",
    ];
    for wrong in wrong {
        assert!(wrong.parse::<SecretReference>().is_err(), "{wrong:?}");
    }
    let literal = SecretSetting::parse("hunter2").unwrap();
    assert!(literal.literal().is_some() && literal.reference().is_none());
    assert!(!parses::<SecretSetting>("vault:../sys/mounts"));
}

#[test]
fn a_url_of_a_server_says_nothing_but_where_it_is() {
    assert!(parses::<Url>("https://vault.example:8200"));
    for wrong in [
        "vault:8200",
        "ftp://a",
        "https://u:p@a",
        "https://u:\\p@a",
        "https://u:1/p@a",
        "https://a?b",
        "https://",
        "a",
    ] {
        assert!(!parses::<Url>(wrong), "{wrong:?}");
    }
}

#[test]
fn a_database_url_is_taken_apart() {
    let DatabaseUrl::Postgres(url) =
        DatabaseUrl::parse("postgresql://me:p%40ss%2Fword@[::1]:5433/dot%20mac?sslmode=verify-ca")
            .unwrap()
    else {
        panic!("not PostgreSQL");
    };
    assert_eq!(
        (&*url.host, url.port, url.name.as_str()),
        ("::1", Some(5433), "dot mac")
    );
    assert_eq!(url.username.as_deref(), Some("me"));
    assert_eq!(
        secrecy::ExposeSecret::expose_secret(&url.password.unwrap()),
        "p@ss/word"
    );
    assert_eq!(url.sslmode.unwrap().as_str(), "verify-ca");

    let path = |text| match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Sqlite { path }) => path.to_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path("sqlite:dotmac.db"), "dotmac.db");
    assert_eq!(path("sqlite:///var/dotmac.db"), "/var/dotmac.db");
    assert_eq!(path("sqlite:/var/dotmac.db"), "/var/dotmac.db");
    assert_eq!(path("sqlite://dotmac.db"), "dotmac.db");

    let wrong = [
        "mysql://me@host/db",
        "postgres:me",
        "postgres://me@host",
        "postgres:///db",
        "postgres://me@a,b/db",
        "postgres://me@host/db?sslmode=loud",
        "postgres://me@host/db?options=x",
        "sqlite:",
        "sqlite::memory:",
        "postgres://me:12/word@host",
        "postgres://me:12#word@host/db",
        "dotmac.db",
        "postgres://a b@host/db",
    ];
    for wrong in wrong {
        assert!(!parses::<DatabaseUrl>(wrong), "{wrong:?}");
    }
}

#[test]
fn every_default_and_every_example_is_a_right_value() {
    for spec in specs() {
        assert_eq!(spec.check(spec.example()), Ok(()), "{}", spec.key());
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        for spec in specs() {
            spec.check(&text).unwrap_or_default();
            spec.shown(&text);
        }
    }

    #[test]
    fn no_log_filter_panics(text in "[ \u{2000}a-z0-9=,:{}\"\\[\\]*.é𑄀-]{0,24}") {
        LogFilter::parse(&text).map(drop).unwrap_or_default();
    }

    #[test]
    fn a_number_in_range_is_taken_and_another_is_not(size in 0_u32..3000) {
        let spec = specs().find(|spec| spec.key() == "DOTMAC_DATABASE_POOL_SIZE").unwrap();
        prop_assert_eq!(spec.check(&size.to_string()).is_ok(), (1..=1000).contains(&size));
    }
}
