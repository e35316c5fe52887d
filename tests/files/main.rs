//! Files as clients, operators and attackers meet them: the daemon on both back ends, two instances of it, killed and cut off.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod clients;
mod direct;
mod faults;
mod house;
mod links;
mod quotas;
mod reading;
mod renditions;
mod s3;
mod scans;
mod sorting;
mod tus;
mod uploads;
mod versions;
