//! Real clients of tus, as docs/services/files.md has them, over connections that are cut and go on at another instance.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use dotmac_testkit::{eventually, process::Process, repository};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

use crate::house::{House, noise, sha256};

/// Bytes of a client after which a connection is cut.
const CUT_AFTER: usize = 3_000_000;

/// What starts a client, but for the file that it is to upload.
fn clients() -> [(&'static str, Command); 3] {
    let tools = repository().join("target/tools/uploads");
    let script = |name: &str| repository().join("examples/uploads").join(name);
    let mut tuspy = Command::new(tools.join("venv/bin/python"));
    tuspy.arg(script("upload.py"));
    let mut tus_js = Command::new("node");
    tus_js
        .env("NODE_PATH", tools.join("node_modules"))
        .arg(script("upload.cjs"));
    // A module looks for others from where it is: this one as if it were next to them.
    let mut uppy = Command::new("node");
    uppy.current_dir(&tools)
        .args(["--input-type=module", "--eval"])
        .arg(fs::read_to_string(script("uppy.mjs")).unwrap());
    [
        ("upload.py", tuspy),
        ("upload.cjs", tus_js),
        ("uppy.mjs", uppy),
    ]
}

/// Stands before instances, takes each connection to the next one, and cuts two of three of them.
struct Cutter {
    url: String,
    cuts: Arc<AtomicUsize>,
}

impl Cutter {
    async fn before(house: &House) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let instances = house.instances.iter();
        let instances: Vec<String> = instances
            .map(|daemon| daemon.base.trim_start_matches("http://").to_owned())
            .collect();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                let to = instances[connection % instances.len()].clone();
                let limit = if connection % 3 == 2 {
                    usize::MAX
                } else {
                    CUT_AFTER
                };
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    if forward(client, &to, limit).await {
                        counted.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        Self { url, cuts }
    }
}

/// Forwards until one side ends, or the client has sent so many bytes; whether it has.
async fn forward(client: TcpStream, to: &str, limit: usize) -> bool {
    let server = TcpStream::connect(to).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let (mut packet, mut sent) = (vec![0; 64 * 1024], 0);
        loop {
            match from_client.read(&mut packet).await {
                Ok(length @ 1..) => {
                    sent += length;
                    if sent >= limit {
                        return true;
                    }
                    if to_server.write_all(&packet[..length]).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    };
    tokio::select! {
        is_cut = up => is_cut,
        _ = copy(&mut from_server, &mut to_client) => false,
    }
}

#[test]
fn the_page_has_the_clients_as_they_are_run() {
    let page = fs::read_to_string(repository().join("docs/services/files.md")).unwrap();
    for (file, _) in clients() {
        let code = fs::read_to_string(repository().join("examples/uploads").join(file)).unwrap();
        assert!(
            page.contains(&format!("\n{code}```\n")),
            "{file} is not on the page"
        );
    }
}

#[tokio::test]
async fn tuspy_tus_js_client_and_uppy_go_on_at_another_instance_when_they_are_cut() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        let bytes = noise(5, 20_000_000);
        let path = house.store().with_file_name("noise.bin");
        fs::write(&path, &bytes).unwrap();
        for (script, mut command) in clients() {
            let cutter = Cutter::before(&house).await;
            command
                .arg(&path)
                .env("DOTMAC_URL", &cutter.url)
                .env("DOTMAC_TOKEN", &house.token);
            let mut client = Process::spawn(&mut command);
            eventually(script, || {
                let exit = client.try_exit();
                async move { exit }
            })
            .await;
            eventually("its output", || async { client.is_read().then_some(()) }).await;
            let lines = client.lines();
            let id = lines.last().cloned().unwrap_or_default();
            let file = house.get(&format!("/files/{id}")).await;
            assert_eq!(file.status, 200, "{script}: {lines:?}");
            assert_eq!(file.text("sha256"), sha256(&bytes), "{script}");
            assert_eq!(
                (file.text("name"), file.text("folder")),
                ("noise.bin", "/uploads")
            );
            let cuts = cutter.cuts.load(Relaxed);
            assert!(cuts >= 2, "{script}: {cuts} cuts");
        }
        house.until_usage((60_000_000, 0, 3)).await;
        eventually("all parts to be gone", || async {
            (house.stored().len() == 3).then_some(())
        })
        .await;
        house.assert_clean(3).await;
    }
}
