//! A wire that can be slow, swallow everything, or be cut: stands between a client and a server on this machine.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use crate::timeline;

/// The handling of the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// They pass, each packet so much later.
    Whole(Duration),
    /// They are kept until this ends, and connections are taken all the same.
    Hole,
    /// Open connections are closed, and no new ones pass.
    Cut,
}

/// Forwards from `port`, as its wire lets it.
pub struct Proxy {
    /// Where it listens, on the loopback interface.
    pub port: u16,
    to: Arc<AtomicU16>,
    wire: watch::Sender<Wire>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server on `to`.
    pub async fn before(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (wire, watched) = watch::channel(Wire::Whole(Duration::ZERO));
        let to = Arc::new(AtomicU16::new(to));
        let leads_to = Arc::clone(&to);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watched.borrow() != Wire::Cut {
                    let to = leads_to.load(Relaxed);
                    tokio::spawn(forward(client, to, watched.clone()));
                }
            }
        });
        Self {
            port,
            to,
            wire,
            accepting,
        }
    }

    /// Forwards new connections to the server on `to`.
    pub fn lead_to(&self, to: u16) {
        self.to.store(to, Relaxed);
    }

    /// Has each packet take `delay` longer, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.set("delays each packet", Wire::Whole(delay));
    }

    /// Takes everything and passes nothing on, without a word to either side.
    pub fn swallow(&self) {
        self.set("swallows everything", Wire::Hole);
    }

    /// Ends what passes, and lets nothing through.
    pub fn cut(&self) {
        self.set("is cut", Wire::Cut);
    }

    /// Lets everything pass at once.
    pub fn mend(&self) {
        self.set("passes everything", Wire::Whole(Duration::ZERO));
    }

    fn set(&self, what: &str, wire: Wire) {
        timeline::note(format!("the proxy on port {} {what}", self.port));
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, to: u16, mut wire: watch::Receiver<Wire>) {
    if passable(&mut wire).await.is_none() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let mut cut = wire.clone();
    tokio::select! {
        _ = pump(from_client, to_server, wire.clone()) => {}
        _ = pump(from_server, to_client, wire) => {}
        _ = cut.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}

/// Passes on what comes, packet by packet, until one side ends.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    let mut packet = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut packet).await?;
        let Some(delay) = passable(&mut wire).await else {
            return Ok(());
        };
        sleep(delay).await;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&packet[..length]).await?;
    }
}

/// Waits until bytes may pass; how much later. `None` once the wire is cut.
async fn passable(wire: &mut watch::Receiver<Wire>) -> Option<Duration> {
    let passes = wire.wait_for(|wire| *wire != Wire::Hole).await.ok()?;
    match *passes {
        Wire::Whole(delay) => Some(delay),
        Wire::Hole | Wire::Cut => None,
    }
}
