//! Turns settings into the configuration of telemetry.

use std::io::IsTerminal;

use dotmac_secrets::SecretStore;
use dotmac_telemetry as telemetry;
use secrecy::{ExposeSecret, SecretString};

use super::OTLP_HEADERS;
use crate::{
    about::About,
    settings::{Export, LogFormat, Settings, otlp_headers},
};

pub(crate) fn telemetry(settings: &Settings, about: About) -> telemetry::Config {
    let given = &settings.telemetry;
    telemetry::Config {
        log_filter: given.log_level.to_string(),
        log_limit: given.log_limit,
        log_format: match given.log_format {
            LogFormat::Json => telemetry::LogFormat::Json,
            LogFormat::Pretty => telemetry::LogFormat::Pretty {
                color: std::io::stdout().is_terminal(),
            },
        },
        otlp: telemetry::Destinations {
            traces: collector(&settings.exports.traces).filter(|_| given.traces),
            metrics: collector(&settings.exports.metrics).filter(|_| given.metrics),
            logs: collector(&settings.exports.logs).filter(|_| given.logs),
        },
        sample_ratio: given.sample_ratio,
        sample_parent_based: given.sample_parent_based,
        span_queue: telemetry::Queue {
            size: given.span_queue,
            batch: given.span_batch,
            delay: given.span_delay,
        },
        log_queue: telemetry::Queue {
            size: given.log_queue,
            batch: given.log_batch,
            delay: given.log_delay,
        },
        metric_interval: given.metric_interval,
        service_name: given.service_name.clone(),
        service_name_is_given: settings.is_given("TELEMETRY_SERVICE_NAME"),
        instance_id: uuid::Uuid::now_v7().to_string(),
        service_version: about.version.to_owned(),
        environment: settings.app.environment.to_string(),
        // Of two with one name the later counts, so an operator's wins.
        resource_attributes: [about.attributes(), given.resource_attributes.clone()].concat(),
        build_info: about.labels(),
    }
}

/// Where one signal goes, if it goes anywhere.
fn collector(export: &Export) -> Option<telemetry::Otlp> {
    let given = &export.settings;
    let endpoint = given.otlp_endpoint.as_ref()?.to_string();
    let client = given
        .otlp_client_cert
        .clone()
        .zip(given.otlp_client_key.clone());
    Some(telemetry::Otlp {
        endpoint,
        appends_path: !export.has_own_endpoint,
        protocol: given.otlp_protocol,
        headers: given
            .otlp_headers
            .literal()
            .map(headers)
            .unwrap_or_default(),
        compression: given.otlp_compression,
        tls: telemetry::Tls {
            ca_cert: given.otlp_ca_cert.clone(),
            client: client
                .map(|(certificate, key)| telemetry::ClientCertificate { certificate, key }),
        },
        export_timeout: given.export_timeout,
    })
}

/// The collector's headers out of `store`, where the settings leave them to it.
pub(crate) fn collector_headers(store: Option<&SecretStore>) -> Vec<(String, SecretString)> {
    store
        .and_then(|store| store.get(OTLP_HEADERS))
        .map(headers)
        .unwrap_or_default()
}

fn headers(text: &SecretString) -> Vec<(String, SecretString)> {
    otlp_headers(text.expose_secret()).unwrap_or_else(|| {
        tracing::error!(
            key = OTLP_HEADERS,
            "the secret is not a list of name=value with percent-encoded values; telemetry is sent without it"
        );
        Vec::new()
    })
}
