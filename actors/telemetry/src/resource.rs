//! Who sends all this: what the settings say, and what can be seen of host and process.
//!
//! Names are those of the OpenTelemetry semantic conventions for resources. Nothing here reads the
//! environment: in Kubernetes the manifest puts pod, namespace and node into the settings.

use std::{env, fs, process};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{ResourceDetector, TelemetryResourceDetector};

use super::config::Config;

/// The resource of every span, metric and log record.
pub(super) fn of(config: &Config) -> Resource {
    let own = [
        ("service.version", &config.service_version),
        ("service.instance.id", &config.instance_id),
        ("deployment.environment.name", &config.environment),
    ];
    let given = config
        .resource_attributes
        .iter()
        .map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    // Later entries win.
    let named = Resource::builder_empty()
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(HostAndProcess),
        ])
        .with_attribute(KeyValue::new("service.name", config.service_name.clone()))
        .with_attributes(own.map(|(name, value)| KeyValue::new(name, value.clone())))
        .with_attributes(given);
    let named = match config.service_name_is_given {
        true => named.with_attribute(KeyValue::new("service.name", config.service_name.clone())),
        false => named,
    };
    named.build()
}

/// Finds out about the machine and this process. What cannot be found out is left away.
struct HostAndProcess;

impl ResourceDetector for HostAndProcess {
    fn detect(&self) -> Resource {
        let executable = env::current_exe().ok();
        let executable = executable.as_deref().and_then(|path| path.file_name());
        let texts = [
            ("host.name", host_name()),
            ("host.arch", Some(architecture().to_owned())),
            ("os.type", Some(env::consts::OS.to_owned())),
            (
                "process.executable.name",
                executable.map(|name| name.to_string_lossy().into_owned()),
            ),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, value)| Some(KeyValue::new(name, value?)));
        Resource::builder_empty()
            .with_attributes(texts)
            .with_attribute(KeyValue::new("process.pid", i64::from(process::id())))
            .build()
    }
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The convention's word where it differs from Rust's.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(config: &Config, name: &'static str) -> Option<String> {
        of(config).get(&name.into()).map(|value| value.to_string())
    }

    #[test]
    fn host_and_process_are_found_and_what_was_given_wins() {
        let given = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = Config {
            resource_attributes: vec![
                given("host.name", "given"),
                given("service.name", "by attribute"),
                given("k8s.pod.name", "dotmac-7"),
            ],
            ..Config::default()
        };
        let pid = process::id().to_string();
        assert_eq!(attribute(&config, "process.pid"), Some(pid));
        assert_eq!(attribute(&config, "host.name").as_deref(), Some("given"));
        assert_eq!(
            attribute(&config, "k8s.pod.name").as_deref(),
            Some("dotmac-7")
        );
        assert_eq!(
            attribute(&config, "service.name").as_deref(),
            Some("by attribute")
        );
        let named = Config {
            service_name_is_given: true,
            ..config
        };
        assert_eq!(
            attribute(&named, "service.name").as_deref(),
            Some("dotmac-platform")
        );
        assert!(attribute(&Config::default(), "host.name").is_some());
    }
}
