//! From variables to what may be called.

use super::{super::AddressClass, *};
use crate::{
    components,
    settings::{Catalogue, Settings, SettingsErrors, Sources},
};

fn configured(environment: &[(&str, &str)]) -> Result<Egress, SettingsErrors> {
    let sources = Sources::new(environment.iter().copied());
    let settings = Settings::from_sources(&Catalogue::platform(), &sources)?;
    Ok(egress(components::egress(&settings), &everything_here()))
}

fn verdict(environment: &[(&str, &str)], url: &str) -> &'static str {
    let checked = configured(environment).unwrap().check_url(url);
    checked.map_or_else(|error| error.code(), |()| "open")
}

const PRODUCTION: [(&str, &str); 2] = [
    ("DOTMAC_ENVIRONMENT", "production"),
    ("DOTMAC_DATABASE_ALLOW_SQLITE", "true"),
];

#[test]
fn the_environment_decides_what_is_open_without_a_word() {
    let loopback = "http://127.0.0.1:8123/";
    let public = "http://8.8.8.8/";
    for (environment, of_loopback, of_public) in [
        ("development", "open", "open"),
        ("test", "open", "open"),
        ("staging", "blocked_address", "open"),
        ("production", "blocked_address", "insecure_url"),
    ] {
        let given = [("DOTMAC_ENVIRONMENT", environment), PRODUCTION[1]];
        assert_eq!(verdict(&given, loopback), of_loopback, "{environment}");
        assert_eq!(verdict(&given, public), of_public, "{environment}");
        assert_eq!(verdict(&given, "https://8.8.8.8/"), "open", "{environment}");
        assert_eq!(
            verdict(&given, "https://10.0.0.1/"),
            "blocked_address",
            "{environment}"
        );
    }
    assert_eq!(verdict(&PRODUCTION, "https://8.8.8.8:80/"), "blocked_port");
}

#[test]
fn an_operator_opens_more() {
    let mut given = PRODUCTION.to_vec();
    given.push(("DOTMAC_EGRESS_ALLOW", "10.0.0.0/8, 127.0.0.1:8123"));
    given.push(("DOTMAC_EGRESS_PORTS", "443,8443"));
    for (url, expected) in [
        ("http://10.1.2.3:8080/", "open"),
        ("http://127.0.0.1:8123/", "open"),
        ("http://127.0.0.1:8124/", "blocked_address"),
        ("https://192.168.0.1/", "blocked_address"),
        ("https://8.8.8.8:8443/", "open"),
        ("https://8.8.8.8:8444/", "blocked_port"),
    ] {
        assert_eq!(verdict(&given, url), expected, "{url}");
    }
}

#[test]
fn a_target_that_is_none_is_refused_by_its_key() {
    let given = [("DOTMAC_EGRESS_ALLOW", "10.0.0.0/8,https://hooks.internal")];
    let error = configured(&given).err().unwrap().to_string();
    assert!(
        error.contains("DOTMAC_EGRESS_ALLOW") && error.contains("item 2"),
        "{error}"
    );
}

#[test]
fn every_class_is_explained() {
    let text = include_str!("../../../../docs/egress.md");
    for class in [
        AddressClass::Metadata,
        AddressClass::Unspecified,
        AddressClass::Loopback,
        AddressClass::Private,
        AddressClass::LinkLocal,
        AddressClass::Multicast,
        AddressClass::Reserved,
    ] {
        assert!(text.contains(&format!("| `{class}` |")), "{class}");
    }
}

#[test]
fn every_error_is_explained() {
    let text = include_str!("../../../../docs/egress.md");
    let source = include_str!("../error.rs");
    let codes = source.split("=> \"").skip(1);
    let codes: Vec<_> = codes.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(codes.len(), 12);
    for code in codes {
        assert!(text.contains(&format!("| `{code}` |")), "{code}");
    }
}
