//! The servers of a process: for its clients, for its operators, and the admin socket.

use std::sync::Arc;

use actix_web::dev::ServerHandle;
use tracing::{info, info_span};

use super::{Refusal, refusal};
use crate::{
    Exit,
    about::About,
    admin::{self, Admin, AdminContext},
    components,
    descriptors::{self, ConnectionBudget, Consumers},
    http::{self, Config, ConnectionLimit, Listeners, Parts, ServeError},
    routing::ModuleRequests,
    settings::Settings,
};

/// Open ports, on which no client is answered yet.
pub(super) struct Ports {
    clients: Port,
    management: Option<Port>,
    budget: ConnectionBudget,
}

struct Port {
    listeners: Listeners,
    config: Config,
}

impl Ports {
    /// Raises the limit on open files, and takes the ports. Calls to the outside have `egress` files open at the most.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`]: a port cannot be had.
    pub(super) fn open(settings: &Settings, about: About, egress: usize) -> Result<Self, Refusal> {
        let mut config = components::http(settings, about);
        let management = components::management(settings, about);
        let consumers = Consumers {
            management: management.as_ref().map_or(0, |it| it.max_connections),
            workers: config.workers,
            egress,
        };
        let budget = ConnectionBudget::new(config.max_connections, descriptors::raise(), consumers);
        config.max_connections = budget.connections(settings.database.pool_size);
        budget.report(config.max_connections);
        let _span = info_span!("open listeners").entered();
        let what = "the port cannot be opened";
        let clients = Port::open(config).map_err(refusal(Exit::Unavailable, what))?;
        let what = "the management port cannot be opened";
        let management = management.map(Port::open).transpose();
        Ok(Self {
            clients,
            management: management.map_err(refusal(Exit::Unavailable, what))?,
            budget,
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
    pub(super) connections: ClientConnections,
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
        let requests = context.requests.clone();
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
            connections: ClientConnections {
                budget: ports.budget,
                limit: clients.limit.clone(),
                requests,
            },
            clients,
            operators: (management, admin),
        })
    }
}

/// How many connections of clients are served at once, which depends on how many the database has: both are open files.
pub(super) struct ClientConnections {
    budget: ConnectionBudget,
    limit: ConnectionLimit,
    requests: Vec<Arc<ModuleRequests>>,
}

impl ClientConnections {
    /// Leaves room for so many connections of the database, and logs what that changes. There are never more than at the
    /// start.
    pub(super) fn leave_room_for(&self, database_connections: usize) {
        let former = self.limit.get();
        self.limit
            .set(self.budget.connections(database_connections));
        let connections = self.limit.get();
        if connections == former {
            return;
        }
        for module in &self.requests {
            module.bound(connections);
        }
        if connections < former {
            self.budget.report(connections);
        }
        info!(
            former,
            connections, "the limit of HTTP connections is now {connections}"
        );
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
