//! Every query on the tables of files, a file for each table.

pub(crate) mod blobs;
pub(crate) mod files;
pub(crate) mod links;
pub(crate) mod renditions;
mod schema;
pub(crate) mod uploads;
pub(crate) mod usage;
pub(crate) mod versions;
