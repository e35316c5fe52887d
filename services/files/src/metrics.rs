//! Metrics of files. No label names a file, a user or a tenant: outcomes are closed sets.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Meter},
};
use tokio::sync::Semaphore;

use crate::{FilesError, decoding::Fault};

static UPLOADS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dotmac.files.uploads", "Uploads, by outcome"));

static RECEIVED: LazyLock<Counter<u64>> =
    LazyLock::new(|| bytes("dotmac.files.received", "Bytes of files that have arrived"));

static SENT: LazyLock<Counter<u64>> =
    LazyLock::new(|| bytes("dotmac.files.sent", "Bytes of files sent to clients"));

static DROPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.files.dropped",
        "Blobs deleted from the store, since no file refers to them",
    )
});

static DECODES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.files.decodes",
        "Files decoded for renditions, texts and metadata, by outcome",
    )
});

static SCANS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dotmac.files.scans", "Virus scans of files, by outcome"));

/// A file was decoded.
pub(crate) const DECODED: &str = "ok";
/// The store, the database or the machine did not do its part.
pub(crate) const DECODE_FAILED: &str = "failed";

/// What came of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    Clean,
    Infected,
    /// The scanner did not take all of it.
    Incomplete,
    /// The scanner or the store did not do its part.
    Failed,
}

impl Scanned {
    const ALL: [Self; 4] = [Self::Clean, Self::Infected, Self::Incomplete, Self::Failed];

    const fn text(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected => "infected",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

static RESUMED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.files.uploads.resumed",
        "Requests that resumed an upload",
    )
});

static LINK_DOWNLOADS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.files.links.downloads",
        "Downloads by links, as the links count them",
    )
});

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is a file.
    Ok,
    /// Its client did not send what it announced, or something that may not be.
    Refused,
    /// The quota, or the number of uploads, allowed no more.
    Limited,
    /// Its client went away, or was too slow.
    Cut,
    /// The store or the database did not do it.
    Failed,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Limited,
        Self::Cut,
        Self::Failed,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Cut => "cut",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn of(error: &FilesError) -> Self {
        match error {
            FilesError::Quota(_) | FilesError::Busy => Self::Limited,
            FilesError::Slow => Self::Cut,
            FilesError::Storage(_) | FilesError::Db(_) | FilesError::Lost => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// What the last comparison of the store and the tables found. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Found(Arc<[AtomicU64; 2]>);

impl Found {
    pub(crate) fn set(&self, orphans: u64, missing: u64) {
        self.0[0].store(orphans, Relaxed);
        self.0[1].store(missing, Relaxed);
    }
}

/// Shows every series from the start on, so that an alert notices the first one.
pub(crate) fn observe(uploads: &Arc<Semaphore>, most: usize, found: &Found) {
    for outcome in Outcome::ALL {
        UPLOADS.add(0, &[label(outcome)]);
    }
    let faults = Fault::ALL.map(Fault::text).into_iter();
    for outcome in faults.chain([DECODED, DECODE_FAILED]) {
        DECODES.add(0, &[outcome_of(outcome)]);
    }
    for scanned in Scanned::ALL {
        SCANS.add(0, &[outcome_of(scanned.text())]);
    }
    RECEIVED.add(0, &[]);
    SENT.add(0, &[]);
    DROPPED.add(0, &[]);
    RESUMED.add(0, &[]);
    LINK_DOWNLOADS.add(0, &[]);
    let uploads = Arc::clone(uploads);
    meter()
        .u64_observable_gauge("dotmac.files.uploads.active")
        .with_description("Uploads that are under way")
        .with_callback(move |gauge| {
            gauge.observe(most.saturating_sub(uploads.available_permits()) as u64, &[]);
        })
        .build();
    for (place, name, description) in [
        (
            0,
            "dotmac.files.orphans",
            "Objects in the store that belong to no blob, at the last check",
        ),
        (
            1,
            "dotmac.files.missing",
            "Blobs without bytes in the store, at the last check",
        ),
    ] {
        let found = found.clone();
        meter()
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| gauge.observe(found.0[place].load(Relaxed), &[]))
            .build();
    }
}

pub(crate) fn uploaded(outcome: Outcome) {
    UPLOADS.add(1, &[label(outcome)]);
}

pub(crate) fn received(bytes: usize) {
    RECEIVED.add(bytes as u64, &[]);
}

pub(crate) fn sent(bytes: usize) {
    SENT.add(bytes as u64, &[]);
}

pub(crate) fn dropped() {
    DROPPED.add(1, &[]);
}

/// `outcome` is a fault, [`DECODED`] or [`DECODE_FAILED`].
pub(crate) fn decoded(outcome: &'static str) {
    DECODES.add(1, &[outcome_of(outcome)]);
}

pub(crate) fn scanned(scanned: Scanned) {
    SCANS.add(1, &[outcome_of(scanned.text())]);
}

pub(crate) fn resumed() {
    RESUMED.add(1, &[]);
}

pub(crate) fn downloaded_by_link() {
    LINK_DOWNLOADS.add(1, &[]);
}

fn label(outcome: Outcome) -> KeyValue {
    outcome_of(outcome.text())
}

fn outcome_of(text: &'static str) -> KeyValue {
    KeyValue::new("outcome", text)
}

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter()
        .u64_counter(name)
        .with_description(description)
        .build()
}

fn bytes(name: &'static str, description: &'static str) -> Counter<u64> {
    meter()
        .u64_counter(name)
        .with_unit("By")
        .with_description(description)
        .build()
}

fn meter() -> Meter {
    global::meter("dotmac.files")
}
