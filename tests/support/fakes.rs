//! Stand-ins for what the real parts cannot be made to do; each says so in its name.

use std::net::TcpListener;

/// A server that accepts connections and never answers: a peer whose process hangs.
pub struct FakeSilentServer {
    _listener: TcpListener,
    pub port: u16,
}

impl FakeSilentServer {
    pub fn start() -> Self {
        // The kernel completes the connections; nobody ever reads from them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            _listener: listener,
            port,
        }
    }
}
