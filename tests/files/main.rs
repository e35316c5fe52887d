//! Files as clients, operators and attackers meet them: the daemon on both back ends, two instances of it, killed and cut off.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod answer;
mod campaign;
mod clients;
mod decoders;
mod direct;
mod faults;
mod heads;
mod house;
mod lies;
mod links;
mod migrations;
mod quotas;
mod ranges;
mod reading;
mod renditions;
mod s3;
mod scans;
mod searches;
mod sorting;
mod sources;
mod stores;
mod sweeps;
mod tus;
mod tus_client;
mod types;
mod uploads;
mod versions;
mod writers;
