//! Files: downloads and uploads against nginx, uploads in parts against @tus/server, thumbnails against sharp, and what memory
//! uploads at once take. This program is run once more as the platform with the module; all keep their bytes on one disk.
//!
//! Peers neither hash nor sync nor record what they take. `DOTMAC_BENCH_UPLOAD_MIB` sets the size of each of the 64 uploads at
//! once (1024, which writes 96 GiB, of which 34 are on the disk at once; where less is free, they are smaller).

mod load;
mod nginx;
mod peers;
mod staggered;
mod thumbnails;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use dotmac_platform::Platform;

use crate::{
    caller::OneCaller,
    process::Measured,
    report::{Report, median},
    support::Postgres,
};
use load::{Body, Connection, MIB, in_parallel};
use nginx::Nginx;
use peers::TusServer;

/// Variable that turns this program into the platform.
const ASKED: &str = "FILES_SERVER";
const ROUNDS: usize = 3;

/// Connections for small files, and files of each in a round.
const CONNECTIONS: usize = 4;
const DOWNLOADS: usize = 250;
const UPLOADS: usize = 50;

/// A large file, in MiB.
const LARGE: usize = 1024;
/// One that comes in parts, in MiB.
const IN_PARTS: usize = 256;

/// Uploads at once.
const AT_ONCE: usize = 64;
/// What they may take beyond what one takes, in MiB: 1 each. With a directory, an upload holds 256 KiB; the rest is for
/// connections and for what the allocator keeps.
const MOST_MEMORY: f64 = 64.0;
/// The size of one of them, in MiB.
const SIZE: usize = 1024;

pub fn asked_for() -> bool {
    // What decodes is this program once more, with an empty environment.
    let decodes = std::env::args().skip(1).eq(["files", "decode"]);
    decodes || std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("files", env!("CARGO_PKG_VERSION"))
        .authenticator(OneCaller)
        .module::<dotmac_jobs::Jobs>()
        .module::<dotmac_files::Files>()
        .main()
}

struct Bed {
    platform: Measured,
    _server: Postgres,
    directory: tempfile::TempDir,
}

impl Bed {
    async fn open() -> Self {
        Self::with(&[]).await
    }

    async fn with(others: &[(&str, String)]) -> Self {
        let (server, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let store = directory.path().join("store");
        let settings = [
            ("DOTMAC_DATABASE_URL", server.url()),
            ("DOTMAC_FILES_PATH", store.display().to_string()),
            ("DOTMAC_FILES_MAX_UPLOAD", "5GiB".to_owned()),
            ("DOTMAC_FILES_MAX_RENDITIONS", "10000".to_owned()),
        ];
        let settings = [&settings[..], others].concat();
        let platform = Measured::this_program(directory.path(), ASKED, &settings);
        platform.until("/ready");
        Self {
            platform,
            _server: server,
            directory,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn port(&self) -> u16 {
        self.platform.port
    }

    /// Uploads a file; the path of its bytes.
    fn file(&self, body: Body<'_>) -> String {
        let mut connection = Connection::open(self.port());
        put(&mut connection, 0, body) + "/content"
    }
}

/// Uploads to the platform; the path of the file.
fn put(connection: &mut Connection, number: usize, body: Body<'_>) -> String {
    let head = format!("PUT /api/v1/files/content?name={number}.bin HTTP/1.1\r\n");
    let made = connection.exchange(&head, body);
    assert_eq!(made.status, 201);
    made.path()
}

/// Downloads; the bytes.
fn get(connection: &mut Connection, path: &str) -> u64 {
    let answer = connection.exchange(&format!("GET {path} HTTP/1.1\r\n"), Body::NONE);
    assert_eq!(answer.status, 200, "{path}");
    answer.size
}

/// Waits until everything that was written is on the disk, so that no round pays for the one before.
fn settle() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// Bytes that no file system makes smaller.
fn block() -> Vec<u8> {
    let mut block = vec![0; MIB];
    fastrand::Rng::with_seed(7).fill(&mut block);
    // Of no known kind.
    block[..4].fill(0);
    block
}

pub async fn measure(report: &mut Report) {
    let block = block();
    let bed = Bed::open().await;
    let nginx = Nginx::start(bed.path());
    downloads(report, &bed, &nginx, &block);
    uploads(report, &bed, &nginx, &block);
    drop(nginx);
    in_parts(report, &bed, &block);
    thumbnails::measure(report, &bed);
    drop(bed);
    memory(report, &block).await;
}

/// What one of several takes part in: connections, files of each, size in MiB, and the row.
struct Load {
    what: &'static str,
    connections: usize,
    each: usize,
    size: usize,
}

fn downloads(report: &mut Report, bed: &Bed, nginx: &Nginx, block: &[u8]) {
    for load in [
        Load {
            what: "download of files of 1 MiB, 4 connections",
            connections: CONNECTIONS,
            each: DOWNLOADS,
            size: 1,
        },
        Load {
            what: "download of a file of 1 GiB",
            connections: 1,
            each: 1,
            size: LARGE,
        },
    ] {
        let path = bed.file(Body(block, load.size));
        let name = format!("{}.bin", load.size);
        fs::write(nginx.root.join(&name), block.repeat(load.size)).unwrap();
        settle();
        let name = format!("/{name}");
        let rate = |port, path: &str| {
            let parallel = (load.connections, load.each);
            in_parallel(port, parallel, |connection, _| get(connection, path))
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(rate(bed.port(), &path));
            theirs.push(rate(nginx.port, &name));
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        report.row(
            load.what,
            "at least 0.8 of nginx, static",
            format!("{:.2} of it ({ours:.0} MiB/s)", ours / theirs),
            format!("nginx, static: {theirs:.0} MiB/s"),
            ours >= 0.8 * theirs,
        );
    }
}

fn uploads(report: &mut Report, bed: &Bed, nginx: &Nginx, block: &[u8]) {
    for load in [
        Load {
            what: "upload of files of 1 MiB, 4 connections, PostgreSQL",
            connections: CONNECTIONS,
            each: UPLOADS,
            size: 1,
        },
        Load {
            what: "upload of a file of 1 GiB, PostgreSQL",
            connections: 1,
            each: 1,
            size: LARGE,
        },
    ] {
        let parallel = (load.connections, load.each);
        let (body, size) = (Body(block, load.size), (load.size * MIB) as u64);
        let (mut ours, mut theirs, mut synced) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            settle();
            ours.push(in_parallel(bed.port(), parallel, |connection, number| {
                put(connection, number, body);
                size
            }));
            for (rates, syncs) in [(&mut theirs, false), (&mut synced, true)] {
                settle();
                rates.push(in_parallel(nginx.port, parallel, |connection, number| {
                    put_to_nginx(connection, number, body);
                    if syncs {
                        sync(&nginx.root.join(format!("{number}.up")));
                    }
                    size
                }));
                for number in 0..load.connections * load.each {
                    fs::remove_file(nginx.root.join(format!("{number}.up"))).unwrap();
                }
            }
        }
        let [ours, theirs, synced] =
            [&mut ours, &mut theirs, &mut synced].map(|rates| median(rates));
        report.row(
            load.what,
            "at least 0.8 of nginx, DAV PUT",
            format!("{:.2} of it ({ours:.0} MiB/s)", ours / theirs),
            format!(
                "nginx, DAV PUT: {theirs:.0} MiB/s; {synced:.0} MiB/s with each file synced, as ours are"
            ),
            ours >= 0.8 * theirs,
        );
    }
}

fn put_to_nginx(connection: &mut Connection, number: usize, body: Body<'_>) {
    let made = connection.exchange(&format!("PUT /{number}.up HTTP/1.1\r\n"), body);
    assert_eq!(made.status, 201);
}

/// Has a file and its directory on the disk.
fn sync(file: &Path) {
    for path in [file, file.parent().unwrap()] {
        fs::File::open(path).unwrap().sync_all().unwrap();
    }
}

fn in_parts(report: &mut Report, bed: &Bed, block: &[u8]) {
    let theirs_at = TusServer::start(bed.path());
    let upload = |port, path: &str| {
        settle();
        in_parallel(port, (1, 1), |connection, _| {
            tus(connection, path, Body(block, IN_PARTS));
            (IN_PARTS * MIB) as u64
        })
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(upload(bed.port(), "/api/v1/files/tus"));
        theirs.push(upload(theirs_at.port, "/files"));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    report.row(
        "upload of a file of 256 MiB by tus, one PATCH, PostgreSQL",
        "at least 0.8 of @tus/server with its file store",
        format!("{:.2} of it ({ours:.0} MiB/s)", ours / theirs),
        format!("@tus/server: {theirs:.0} MiB/s"),
        ours >= 0.8 * theirs,
    );
}

/// Uploads by tus: one request that begins, and one with all bytes.
fn tus(connection: &mut Connection, path: &str, body: Body<'_>) {
    let size = body.0.len() * body.1;
    let resumable = "HTTP/1.1\r\ntus-resumable: 1.0.0\r\n";
    let begin = format!(
        "POST {path} {resumable}upload-length: {size}\r\nupload-metadata: filename YS5iaW4=\r\n"
    );
    let begun = connection.exchange(&begin, Body::NONE);
    assert_eq!(begun.status, 201);
    let go_on = format!(
        "PATCH {} {resumable}upload-offset: 0\r\ncontent-type: application/offset+octet-stream\r\n",
        begun.path()
    );
    assert_eq!(connection.exchange(&go_on, body).status, 204);
}

async fn memory(report: &mut Report, block: &[u8]) {
    let wanted = std::env::var("DOTMAC_BENCH_UPLOAD_MIB").ok();
    let wanted = wanted.map_or(SIZE, |size| size.parse().unwrap());
    let size = staggered::fitting(wanted);
    // What has arrived is gone within two seconds.
    let settings = [
        ("DOTMAC_FILES_TRASH_RETENTION", "1s".to_owned()),
        ("DOTMAC_FILES_SWEEP_INTERVAL", "100ms".to_owned()),
    ];
    let bed = Bed::with(&settings).await;
    // What the first of its kind makes for all.
    bed.file(Body(block, 1));
    let idle = bed.platform.memory();
    let few = (size / 16).max(1);
    let peak_of = |upload: &dyn Fn()| {
        bed.platform.forget_peak();
        upload();
        bed.platform.peak_memory()
    };
    let one = peak_of(&|| drop(bed.file(Body(block, size))));
    let small = peak_of(&|| staggered::run(bed.port(), few, block));
    let large = peak_of(&|| staggered::run(bed.port(), size, block));
    report.row(
        "memory of 64 parallel uploads, all under way all the time",
        "at most 64 MiB beyond that of one upload, for any size",
        format!("{:.1} MiB beyond it for {size} MiB each", large - one),
        format!(
            "one upload of {size} MiB: {one:.1} MiB; idle: {idle:.1} MiB; 64 of {few} MiB each: {:.1} MiB beyond that of one",
            small - one
        ),
        large - one <= MOST_MEMORY,
    );
}
