//! `dotmac probe`: asks a running daemon how it is, for images that have no curl.

use std::{net::IpAddr, time::Duration};

use clap::{Args, ValueEnum};
use url::Url;

use crate::{
    Exit,
    program::Program,
    settings::Settings,
    shown::{in_lines, quotable},
};

/// Longest wait for an answer: shorter than that of an orchestrator.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Of an answer no more is shown, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// The probe, and its server.
#[derive(Args)]
pub(super) struct Arguments {
    /// The probe.
    #[arg(value_enum, default_value_t = Kind::Live)]
    kind: Kind,
    /// Where the daemon is, if not where the settings say: http://host:port
    #[arg(long, value_parser = parse_base)]
    url: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Does the process make progress?
    Live,
    /// Can it do its work?
    Ready,
    /// Was it ever ready?
    Startup,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "/health",
            Self::Ready => "/ready",
            Self::Startup => "/health/startup",
        }
    }
}

/// The address without a slash at its end.
fn parse_base(text: &str) -> Result<String, &'static str> {
    let is_right = Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_right {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("not the address of a server; write e.g. http://127.0.0.1:8000")
    }
}

pub(super) async fn run(program: &Program, arguments: &Arguments) -> Exit {
    let base = match &arguments.url {
        Some(url) => url.clone(),
        None => match super::settings(program) {
            Ok(settings) => own_address(&settings),
            Err(exit) => return exit,
        },
    };
    let url = format!("{base}{}", arguments.kind.path());
    match ask(&url, arguments.url.is_none()).await {
        Ok((ok, body)) => {
            super::print(&in_lines(&body));
            if ok { Exit::Success } else { Exit::Failure }
        }
        Err(error) => {
            // The error would quote the whole of it.
            let error = error.without_url();
            let why = dotmac_causes::chain(&error);
            super::complain(&format!("no answer from {}: {why}", quotable(&url)));
            Exit::Failure
        }
    }
}

/// Where a daemon with these settings listens, as seen from the same machine.
fn own_address(settings: &Settings) -> String {
    let app = &settings.app;
    let (scheme, host, port) = match app.management_port {
        Some(port) => (
            "http",
            app.management_host.as_ref().unwrap_or(&app.host),
            port,
        ),
        None if app.tls_cert.is_some() => ("https", &app.host, app.port),
        None => ("http", &app.host, app.port),
    };
    let host = host.to_string();
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".into(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".into(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    };
    format!("{scheme}://{host}:{port}")
}

async fn ask(url: &str, own: bool) -> Result<(bool, String), reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        // An answer of another server does not count.
        .redirect(reqwest::redirect::Policy::none())
        // Our own certificate is for our public name, not for the loopback address.
        .tls_danger_accept_invalid_certs(own)
        .build()?;
    let mut answer = client.get(url).send().await?;
    let ok = answer.status().is_success();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() >= ANSWER_LIMIT {
            body.truncate(ANSWER_LIMIT);
            break;
        }
    }
    Ok((ok, String::from_utf8_lossy(&body).into_owned()))
}
