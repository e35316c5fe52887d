//! How the pool opens its connections.

use std::sync::Arc;

use diesel::{Connection as _, connection::SimpleConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::{
    access::Access,
    loan::{Opener, Session},
};
use crate::{
    Config, OpenError, Postgres, Target, connect,
    connection::{AsyncSqliteConnection, Blocking},
    monitor::{Alarms, ConnectionState},
    statement::{Observer, Observing},
};

/// Opens connections to a server, on `runtime`.
pub(crate) fn postgres_opener(
    server: &Postgres,
    config: &Config,
    runtime: &tokio::runtime::Handle,
    observing: &Observing,
    alarms: &Alarms,
) -> Opener<AsyncPgConnection> {
    let given = Arc::new((server.clone(), config.clone()));
    let (observing, alarms, runtime) = (observing.clone(), alarms.clone(), runtime.clone());
    Opener::new(move || {
        let (given, observing, alarms) = (Arc::clone(&given), observing.clone(), alarms.clone());
        let connection_state = ConnectionState::new(&alarms);
        // The driver of a connection runs where it was opened: always here, never on a caller's thread.
        let opened = runtime.spawn(async move {
            let (server, config) = &*given;
            let mut opened = connect::postgres(server, config, &connection_state).await?;
            let observer = Observer::new(observing, Arc::clone(&connection_state));
            opened.connection.set_instrumentation(observer);
            alarms.drives(&connection_state, opened.driver.clone());
            let wire = Some((opened.driver, opened.guard));
            Ok(Session::new(
                opened.connection,
                connection_state,
                config.max_lifetime,
                wire,
            ))
        });
        async move { opened.await.unwrap_or_else(|died| Err(setup(died))) }
    })
}

/// Opens connections to a file, for one kind of work.
pub(crate) fn sqlite_opener(
    config: &Config,
    access: Access,
    observing: &Observing,
    alarms: &Alarms,
) -> Opener<AsyncSqliteConnection> {
    let Target::Sqlite(file) = config.target.clone() else {
        return Opener::new(|| async { Err(OpenError::Setup("no file is given".into())) });
    };
    let (observing, alarms, lifetime) = (observing.clone(), alarms.clone(), config.max_lifetime);
    Opener::new(move || {
        let (file, observing, connection_state) = (
            file.clone(),
            observing.clone(),
            ConnectionState::new(&alarms),
        );
        async move {
            let observer = Observer::new(observing, Arc::clone(&connection_state));
            let opened_state = Arc::clone(&connection_state);
            let opening = tokio::task::spawn_blocking(move || {
                let (mut connection, hold) = file.open(connect::sqlite)?;
                opened_state.set_file(hold);
                connection.set_instrumentation(observer);
                if access == Access::Read {
                    let only_read = connection.batch_execute("PRAGMA query_only = ON");
                    only_read.map_err(|error| connect::refused(file.path(), &error.to_string()))?;
                }
                Ok(connection)
            });
            let connection = opening.await.unwrap_or_else(|died| Err(setup(died)))?;
            let runtime = tokio::runtime::Handle::current();
            let blocking = Blocking::on(runtime, &connection_state);
            let connection = AsyncSqliteConnection::with_runtime(connection, blocking);
            Ok(Session::new(connection, connection_state, lifetime, None))
        }
    })
}

fn setup(died: tokio::task::JoinError) -> OpenError {
    OpenError::Setup(died.to_string())
}
