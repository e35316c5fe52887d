//! The daemon seen from outside: the real binary, over HTTP, with real servers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

use dotmac_testkit as support;

mod account_acts;
mod accounts;
mod acts;
mod admin;
mod architecture;
mod attack;
mod audit;
mod callers;
mod collector;
mod command_line;
mod connect;
mod database;
mod deployment;
mod documentation;
mod embedding;
mod events;
mod files;
mod first_service;
mod fuzzing;
mod http;
mod hygiene;
mod jobs;
mod journal;
mod leases;
mod management;
mod metrics;
mod migrations;
mod notes;
mod notifications;
mod page;
mod planted;
mod probes;
mod program;
mod queueing;
mod schedules;
mod secrets;
mod settings;
mod stopping;
mod systemd;
mod telemetry;
mod totp;
mod traces;
mod views;
mod webhooks;
mod workers;
