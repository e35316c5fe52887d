//! Takes the listening sockets, before any actor, thread or connection exists.
//!
//! A port that cannot be had is the commonest failed start, so each reason is one sentence that
//! names the address and what to do.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Config, Surface};

/// Connections the kernel may hold until a worker takes them; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets that listen already; no client is answered until [`super::serve`] takes them.
#[derive(Debug)]
pub struct Listeners {
    pub(super) sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    /// The addresses really bound, with the real port if 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The host name has no address.
    #[error(
        "cannot listen on `{host}`: the name does not resolve to an address; set {key} to an address of this machine, 127.0.0.1 or 0.0.0.0",
        key = .surface.host_key()
    )]
    UnknownHost {
        /// The name as configured.
        host: String,
        /// Which listener.
        surface: Surface,
        /// The resolver's error; absent if it returned no address.
        #[source]
        source: Option<io::Error>,
    },
    /// Another process has the port.
    #[error(
        "cannot listen on {address}: another process has this port; stop it, or set {key} to a free one (0 takes any)",
        key = .surface.port_key()
    )]
    InUse {
        /// The address that is taken.
        address: SocketAddr,
        /// Which listener.
        surface: Surface,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The process may not use this port.
    #[error(
        "cannot listen on {address}: this user may not take the port; set {key} to 1024 or above, or grant CAP_NET_BIND_SERVICE",
        key = .surface.port_key()
    )]
    Denied {
        /// The address that was refused.
        address: SocketAddr,
        /// Which listener.
        surface: Surface,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The address belongs to another machine.
    #[error(
        "cannot listen on {address}: this machine has no such address; set {key} to one of its own, 127.0.0.1 or 0.0.0.0",
        key = .surface.host_key()
    )]
    NotOurs {
        /// The address that does not exist here.
        address: SocketAddr,
        /// Which listener.
        surface: Surface,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// Anything else the system may refuse.
    #[error(
        "cannot listen on {address}: {source}; check {} and {}",
        .surface.host_key(),
        .surface.port_key()
    )]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// Which listener.
        surface: Surface,
        /// The system's own words.
        source: io::Error,
    },
}

/// Binds every address of `config.host` and starts to listen.
///
/// # Errors
///
/// [`BindError`], a sentence for the operator. A name with several addresses (`localhost`) is bound
/// where this machine has them; it is an error only if none can be, or if one is taken.
pub fn bind(config: &Config) -> Result<Listeners, BindError> {
    let mut listeners = Listeners {
        sockets: Vec::new(),
        addresses: Vec::new(),
    };
    let mut absent = None;
    for mut address in resolve(config)? {
        // One free port for all addresses of a name, not another for each.
        if let (0, Some(first)) = (config.port, listeners.addresses.first()) {
            address.set_port(first.port());
        }
        match listen(address, config) {
            Ok((socket, bound)) => {
                listeners.sockets.push(socket);
                listeners.addresses.push(bound);
            }
            Err(error @ BindError::NotOurs { .. }) => absent = Some(error),
            Err(error) => return Err(error),
        }
    }
    match absent {
        Some(error) if listeners.sockets.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn resolve(config: &Config) -> Result<Vec<SocketAddr>, BindError> {
    let (host, port) = (config.host.as_str(), config.port);
    let unknown = |source| BindError::UnknownHost {
        host: host.to_owned(),
        surface: config.surface,
        source,
    };
    // `[::1]` is how a URL writes it, `::1` how the resolver wants it.
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let mut addresses = Vec::new();
    for address in (name, port)
        .to_socket_addrs()
        .map_err(|error| unknown(Some(error)))?
    {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err(unknown(None))
    } else {
        Ok(addresses)
    }
}

fn listen(address: SocketAddr, config: &Config) -> Result<(TcpListener, SocketAddr), BindError> {
    let surface = config.surface;
    try_listen(address, config.write_timeout).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse {
            address,
            surface,
            source,
        },
        io::ErrorKind::PermissionDenied => BindError::Denied {
            address,
            surface,
            source,
        },
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => BindError::NotOurs {
            address,
            surface,
            source,
        },
        _ => BindError::Other {
            address,
            surface,
            source,
        },
    })
}

/// By socket2, because the standard library's listener fixes the backlog at 128.
fn try_listen(
    address: SocketAddr,
    write_timeout: Duration,
) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the former life's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit the following options. Without it, the last piece of an answer
    // in pieces waits until the client has acknowledged the others, which clients put off for 40 ms.
    socket.set_tcp_nodelay(true)?;
    // Data that a client does not read leaves the kernel, even after the connection is closed.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(write_timeout))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::config;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn port_zero_becomes_a_real_port() -> Outcome {
        let listeners = bind(&config())?;
        assert!(
            listeners
                .addresses()
                .iter()
                .all(|address| address.port() != 0)
        );
        Ok(())
    }

    #[test]
    fn accepted_connections_send_at_once_and_are_not_kept_by_the_kernel() -> Outcome {
        let listeners = bind(&config())?;
        let _client = std::net::TcpStream::connect(listeners.addresses()[0])?;
        let listener = &listeners.sockets[0];
        listener.set_nonblocking(false)?;
        let (accepted, _) = listener.accept()?;
        assert!(accepted.nodelay()?);
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket2::SockRef::from(&accepted).tcp_user_timeout()?,
            Some(config().write_timeout)
        );
        Ok(())
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() -> Outcome {
        let first = bind(&config())?;
        let mut second = config();
        second.port = first.addresses()[0].port();
        let error = bind(&second).err().ok_or("bound twice")?.to_string();
        assert!(
            error.contains(&format!("127.0.0.1:{}", second.port)),
            "{error}"
        );
        assert!(error.contains("another process has this port"), "{error}");
        Ok(())
    }

    #[test]
    fn a_name_without_address_is_named() -> Outcome {
        let mut config = config();
        config.host = "no-such-host.invalid".to_owned();
        let error = bind(&config).err().ok_or("bound")?.to_string();
        assert!(error.contains("`no-such-host.invalid`"), "{error}");
        Ok(())
    }

    #[test]
    fn an_address_of_another_machine_is_distinguished() -> Outcome {
        let mut config = config();
        config.host = "192.0.2.1".to_owned(); // RFC 5737: never assigned
        let error = bind(&config).err().ok_or("bound")?;
        assert!(matches!(error, BindError::NotOurs { .. }), "{error}");
        Ok(())
    }

    #[test]
    fn an_ipv6_address_may_be_written_in_brackets() -> Outcome {
        let mut config = config();
        (config.host, config.port) = ("[::1]".to_owned(), 80);
        assert_eq!(resolve(&config)?, vec!["[::1]:80".parse::<SocketAddr>()?]);
        Ok(())
    }
}
