//! The servers of a process: for its clients, for its operators, and the admin socket.

use actix_web::dev::ServerHandle;
use tracing::{info, info_span, warn};

use super::{Refusal, refusal};
use crate::{
    Exit,
    about::About,
    admin::{self, Admin, AdminContext},
    components, descriptors,
    http::{self, Config, Listeners, Parts, ServeError},
    settings::Settings,
};

/// Ports that are open, on which nobody is answered yet.
pub(super) struct Ports {
    clients: Port,
    management: Option<Port>,
}

struct Port {
    listeners: Listeners,
    config: Config,
}

impl Ports {
    /// Raises the limit on open files, and takes the ports.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`]: a port cannot be had.
    pub(super) fn open(settings: &Settings, about: About) -> Result<Self, Refusal> {
        let mut config = components::http(settings, about);
        let management = components::management(settings, about);
        let kept_back = management.as_ref().map_or(0, |it| it.max_connections);
        match descriptors::raise() {
            Ok(Some(limit)) => {
                config.max_connections = descriptors::connections(
                    config.max_connections,
                    limit,
                    kept_back,
                    config.workers,
                    settings.database.pool_size,
                );
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "the limit on open files cannot be raised"),
        }
        let _span = info_span!("open listeners").entered();
        let what = "the port cannot be opened";
        let clients = Port::open(config).map_err(refusal(Exit::Unavailable, what))?;
        let what = "the management port cannot be opened";
        let management = management.map(Port::open).transpose();
        Ok(Self {
            clients,
            management: management.map_err(refusal(Exit::Unavailable, what))?,
        })
    }

    /// Connections of clients that are served at once.
    pub(super) fn max_connections(&self) -> usize {
        self.clients.config.max_connections
    }
}

impl Port {
    fn open(config: Config) -> Result<Self, http::BindError> {
        Ok(Self {
            listeners: http::bind(&config)?,
            config,
        })
    }
}

/// All of them, running.
pub(super) struct Servers {
    pub(super) clients: http::Running,
    /// These two are open for as long as their values live.
    pub(super) operators: (Option<Management>, Option<Admin>),
}

impl Servers {
    /// Answers on all of them from now on. Must be called on the actix system's thread.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: one of them cannot be set up.
    pub(super) fn start(
        ports: Ports,
        parts: Parts,
        settings: &Settings,
        context: AdminContext,
    ) -> Result<Self, Refusal> {
        let _span = info_span!("set up http").entered();
        let open = |port| Management::open(port, parts.without_routes());
        let management = ports.management.map(open).transpose();
        let what = "the management listener cannot be set up";
        let management = management.map_err(refusal(Exit::Unavailable, what))?;

        let Port { listeners, config } = ports.clients;
        let addresses = listeners.addresses().to_vec();
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let what = "the HTTP server cannot be set up";
        let clients =
            http::serve(listeners, config, parts).map_err(refusal(Exit::Settings, what))?;
        for address in addresses {
            info!(%address, "listening on {scheme}://{address}");
        }

        let socket = settings.app.admin_socket.as_deref();
        let what = "the admin socket cannot be opened";
        let admin = socket.map(|path| admin::open(path, context)).transpose();
        let admin = admin.map_err(refusal(Exit::Unavailable, what))?;
        Ok(Self {
            clients,
            operators: (management, admin),
        })
    }
}

/// The management listener: probes and metrics on a thread of their own. Closed when dropped.
pub(super) struct Management {
    server: ServerHandle,
}

impl Management {
    fn open(port: Port, parts: Parts) -> Result<Self, ServeError> {
        let Port { listeners, config } = port;
        let addresses = listeners.addresses().to_vec();
        let serve = move || Ok::<_, ServeError>(http::serve(listeners, config, parts)?.server);
        let server = http::serve_on_own_thread("management", serve)?;
        for address in addresses {
            info!(%address, "probes and metrics on http://{address}");
        }
        Ok(Self { server })
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        // Done without waiting: the process is about to end.
        drop(self.server.stop(false));
    }
}
