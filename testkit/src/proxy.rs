//! A wire that can be cut: stands between a client and a server on this machine.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// Forwards from `port` until it is cut.
pub struct Proxy {
    pub port: u16,
    is_cut: Arc<AtomicBool>,
    cut: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server on `to`.
    pub async fn before(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (flag, notify) = (Arc::clone(&is_cut), Arc::clone(&cut));
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if flag.load(Relaxed) {
                    continue;
                }
                let notify = Arc::clone(&notify);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = notify.notified() => {}
                    }
                });
            }
        });
        Self {
            port,
            is_cut,
            cut,
            accepting,
        }
    }

    /// Ends what passes, and lets nothing through.
    pub fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}
