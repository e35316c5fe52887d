//! The URL of a database: a SQLite file or a PostgreSQL server.
//!
//! It is parsed here, once, and refused if it has parts that no code reads.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::host::HostName;
use super::{SslMode, percent_decoded};
use crate::settings::{Invalid, Setting};

/// Where the data is.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// `sqlite:PATH`.
    Sqlite {
        /// The file; relative to the working directory unless absolute.
        path: PathBuf,
    },
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=MODE`.
    Postgres(PostgresUrl),
}

/// The parts of a PostgreSQL URL.
#[derive(Debug, Clone)]
pub struct PostgresUrl {
    /// The server.
    pub host: HostName,
    /// Its port, if not 5432.
    pub port: Option<u16>,
    /// The database.
    pub name: String,
    /// Who connects.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<SecretString>,
    /// How the connection is encrypted.
    pub sslmode: Option<SslMode>,
}

impl Setting for DatabaseUrl {
    const EXAMPLE: &'static str = "postgres://dotmac@db.example/dotmac";

    fn expected() -> String {
        "a sqlite: or postgres:// URL".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Invalid::because(
                "it holds white space; write %20 for a space",
            ));
        }
        match text.split_once(':') {
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => postgres(text),
            _ => Err(Invalid::plain()),
        }
    }

    // The wrong part of a URL may be its password, so only a valid one is shown.
    fn shown(text: &str) -> Option<String> {
        <Self as Setting>::parse(text)
            .ok()
            .map(|_| without_password(text))
    }

    /// User and password are taken live, like those that have their own keys.
    fn lasting(text: &str) -> String {
        let Ok(mut url) = Url::parse(text) else {
            return text.to_owned();
        };
        // A file has neither, and then there is nothing to take away.
        url.set_username("").ok();
        url.set_password(None).ok();
        url.into()
    }
}

fn sqlite(rest: &str) -> Result<DatabaseUrl, Invalid> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with(":memory:") {
        return Err(Invalid::because(
            "a database in memory would be another one for each connection",
        )
        .instead("name a file, e.g. sqlite:dotmac.db"));
    }
    if path.is_empty() || path.contains(['?', '#']) {
        return Err(
            Invalid::because("after `sqlite:` comes the path of a file and nothing else")
                .instead("write e.g. sqlite:dotmac.db or sqlite:/var/lib/dotmac/dotmac.db"),
        );
    }
    let path = percent_decoded(path)
        .ok_or_else(|| Invalid::because("the path is wrongly percent-encoded"))?;
    let path = PathBuf::parse(&path)?;
    Ok(DatabaseUrl::Sqlite { path })
}

fn postgres(text: &str) -> Result<DatabaseUrl, Invalid> {
    let url = Url::parse(text).map_err(|error| {
        Invalid::because(error.to_string()).instead(
            "write e.g. postgres://user:password@host:5432/name, with / @ : # ? in the password as %2F %40 %3A %23 %3F",
        )
    })?;
    if url.fragment().is_some() {
        return Err(Invalid::because("it holds a `#`; in a password write %23"));
    }
    let decoded = |part: &str| {
        percent_decoded(part)
            .filter(|part| !part.chars().any(char::is_control))
            .ok_or_else(|| {
                Invalid::because(
                    "a part is wrongly percent-encoded or holds a control character; write %25 for `%`",
                )
            })
    };
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = HostName::parse(host).map_err(|_| Invalid::because("it names no single host"))?;
    if url.path().contains('@') {
        return Err(Invalid::because(
            "an `@` stands behind a `/`; in a password write %2F for `/`",
        ));
    }
    let name = decoded(url.path().trim_start_matches('/'))?;
    if name.is_empty() || name.contains('/') {
        return Err(Invalid::because("it names no database after the host"));
    }
    let username = Some(decoded(url.username())?).filter(|name| !name.is_empty());
    let password = url
        .password()
        .map(&decoded)
        .transpose()?
        .filter(|word| !word.is_empty());
    Ok(DatabaseUrl::Postgres(PostgresUrl {
        host,
        port: url.port(),
        name,
        username,
        password: password.map(SecretString::from),
        sslmode: sslmode(&url)?,
    }))
}

/// The one parameter that is understood. Others are refused, since they would have no effect.
fn sslmode(url: &Url) -> Result<Option<SslMode>, Invalid> {
    let mut sslmode = None;
    for (name, value) in url.query_pairs() {
        if name != "sslmode" {
            return Err(
                Invalid::because("of the parameters only `sslmode` is understood")
                    .instead("use the other DOTMAC_DATABASE_ keys instead of parameters"),
            );
        }
        let known = SslMode::parse(&value)
            .map_err(|_| Invalid::because(format!("its sslmode is not {}", SslMode::expected())))?;
        sslmode = Some(known);
    }
    Ok(sslmode)
}

/// A right URL with its password replaced.
fn without_password(text: &str) -> String {
    let masked = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        let tail = &rest[authority.len()..];
        Some(format!("{scheme}://{name}:[redacted]@{host}{tail}"))
    };
    masked().unwrap_or_else(|| text.to_owned())
}
