//! How a piece of work is done: with a connection, within its limits, to its end. Compiled once for all work, of any
//! result type; `handle` and `tenant` put the types around it.

use std::{
    any::Any,
    borrow::Cow,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use dotmac_supervision::{Published, panic_message};
use futures_util::FutureExt;
use tokio::time::timeout_at;
use tracing::{Instrument, error, field, info_span, warn};

use super::{
    Isolation, Retry,
    piece::{Kept, Piece, Start},
    scope::Scope,
    tenant_tx::TenantTx,
    tx::{AfterCommit, Tx},
};
use crate::{
    Connection, DbError, Pool, WORK_BLOCKED, file,
    instruments::Outcome,
    pool::{Access, Bulkhead, Left, Place, Ticket},
};

/// How long the threads of the database are given to have their turn after a pause of the whole process.
const TURN: Duration = Duration::from_secs(1);

/// The way to the database, and on whose behalf it is taken.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) pool: Published<Pool>,
    pub(super) module: Option<Arc<Bulkhead>>,
    pub(super) scope: Scope,
}

/// How work is run.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) access: Access,
    /// Of the transaction; without, statements are committed one by one.
    pub(super) isolation: Option<Isolation>,
    pub(super) tries: u32,
}

impl Plan {
    pub(super) const fn direct(access: Access) -> Self {
        Self {
            access,
            isolation: None,
            tries: 1,
        }
    }

    pub(super) const fn transaction(isolation: Isolation) -> Self {
        Self {
            access: Access::Write,
            isolation: Some(isolation),
            tries: 1,
        }
    }

    pub(super) const fn retrying(retry: Retry) -> Self {
        Self {
            tries: retry.tries,
            ..Self::transaction(retry.isolation)
        }
    }
}

impl Route {
    /// Has the database's runtime do a piece of work in its own task: dropping this future does not cancel
    /// it.
    pub(super) async fn execute<T, E>(
        self,
        operation: &'static str,
        plan: Plan,
        start: Start<T, E>,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let piece = Box::new(Kept::new(start));
        let lost = || Err(E::from(panicked(operation, "its result is lost")));
        match self.drive(operation, plan, piece).await {
            Ok(piece) => match (piece as Box<dyn Any>).downcast::<Kept<T, E>>() {
                Ok(kept) => kept.into_result().unwrap_or_else(lost),
                Err(_) => lost(),
            },
            Err(refused) => Err(E::from(refused)),
        }
    }

    async fn drive(
        self,
        operation: &'static str,
        plan: Plan,
        piece: Box<dyn Piece>,
    ) -> Result<Box<dyn Piece>, DbError> {
        let pool = self.pool.get().ok_or(DbError::Unavailable {
            retry_after: Duration::ZERO,
        })?;
        let span = info_span!(
            "database",
            otel.name = operation,
            otel.status_code = field::Empty,
            db.system.name = pool.system,
        );
        let runtime = pool.runtime().handle().clone();
        let limit = pool.try_limit * plan.tries;
        let job = Job {
            pool,
            operation,
            plan,
            scope: self.scope,
            module: self.module,
        };
        let mut done = runtime.spawn(job.run(piece).instrument(span));
        let Some(done) = in_time(&mut done, limit).await else {
            return Err(stranded(operation, plan.access, limit));
        };
        done.map_err(|error| match error.try_into_panic() {
            Ok(panic) => panicked(operation, panic_message(&*panic)),
            Err(_stopped) => panicked(operation, "the thread of the database ended"),
        })
    }
}

/// What `done` gives, unless that takes longer than `limit`. It is asked once more after a moment: if the whole process was
/// paused, the threads of the database have not had their turn yet.
async fn in_time<T>(mut done: impl Future<Output = T> + Unpin, limit: Duration) -> Option<T> {
    for limit in [limit, TURN] {
        if let Ok(done) = tokio::time::timeout(limit, &mut done).await {
            return Some(done);
        }
    }
    None
}

/// What the caller of work gets that goes on with no thread. If one is free later, it may still take place.
fn stranded(operation: &'static str, access: Access, limit: Duration) -> DbError {
    warn!(
        reason = WORK_BLOCKED.as_str(),
        operation,
        "database work `{operation}` has had no thread for {limit:?}, since other work blocks them; its caller gets an error"
    );
    let why = format!(
        "database work `{operation}` has had no thread for {limit:?}: other work blocks them"
    );
    let kind = DatabaseErrorKind::UnableToSendCommand;
    let source = QueryError::DatabaseError(kind, Box::new(why));
    match access {
        Access::Read => DbError::ConnectionLost(source),
        Access::Write => DbError::OutcomeUnknown(source),
    }
}

fn panicked(operation: &'static str, message: &str) -> DbError {
    let message = message.to_owned();
    DbError::Panicked { operation, message }
}

/// A piece of work under way.
struct Job {
    pool: Arc<Pool>,
    operation: &'static str,
    plan: Plan,
    scope: Scope,
    module: Option<Arc<Bulkhead>>,
}

/// How one attempt ended.
enum End {
    Done,
    /// The work returned an error, which its piece keeps.
    Failed {
        conflict: bool,
        of_database: bool,
    },
    /// The work was not done, was rolled back, or its outcome is not known.
    Refused(DbError),
}

impl End {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Done => false,
            Self::Failed { conflict, .. } => *conflict,
            Self::Refused(error) => matches!(error, DbError::Conflict(_)),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Done => Outcome::Ok,
            Self::Failed {
                of_database: false, ..
            } => Outcome::Rejected,
            Self::Failed { .. } | Self::Refused(_) => Outcome::Error,
        }
    }
}

impl Job {
    async fn run(self, mut piece: Box<dyn Piece>) -> Box<dyn Piece> {
        let mut end = self.attempt(&mut *piece).await;
        for done in 1..self.plan.tries {
            if !end.is_conflict() {
                break;
            }
            self.pool.instruments.retried();
            tokio::time::sleep(Retry::pause(done, &mut fastrand::Rng::new())).await;
            end = self.attempt(&mut *piece).await;
        }
        if end.outcome() == Outcome::Error {
            tracing::Span::current().record("otel.status_code", "ERROR");
        }
        if let End::Refused(error) = end {
            piece.refuse(error);
        }
        piece
    }

    /// Does the work once, with its own connection.
    async fn attempt(&self, piece: &mut dyn Piece) -> End {
        let (end, follow) = match self.lent().await {
            Ok((connection, _place)) => self.with(connection, piece).await,
            Err(refused) => (End::Refused(refused), Vec::new()),
        };
        let operation = self.operation;
        for follow in follow {
            if catch_unwind(AssertUnwindSafe(follow)).is_err() {
                error!(
                    operation,
                    "a follow-up of the committed transaction `{operation}` panicked"
                );
            }
        }
        end
    }

    /// A connection, and the module's place for it, within the pool's time-out.
    async fn lent(&self) -> Result<(Connection, Option<Place<'_>>), DbError> {
        let (pool, access) = (&self.pool, self.plan.access);
        let asked = Instant::now();
        let deadline = asked + pool.pool_timeout;
        let place = match &self.module {
            Some(module) => Some(pool.place(module, access, deadline).await?),
            None => None,
        };
        let connection = pool.connection(access, deadline).await?;
        pool.instruments.waited(asked.elapsed());
        Ok((connection, place))
    }

    /// Does the work, and gives the connection back or closes it. After a commit also what follows it.
    async fn with(&self, connection: Connection, piece: &mut dyn Piece) -> (End, Vec<AfterCommit>) {
        let (pool, operation) = (&self.pool, self.operation);
        let begin = self.begin(&connection);
        let (began, limit) = (Instant::now(), pool.limit(begin.is_some()));
        let module = self.module.as_deref().map(Bulkhead::module);
        let mut lent = TenantTx::new(Tx::new(connection, self.scope, module));
        let ticket =
            pool.under_way()
                .enter(operation, self.module.clone(), self.plan.access, limit);
        let (end, sound) = {
            let attempt = self.transact(begin, &mut lent, piece, &ticket);
            let mut attempt = pin!(AssertUnwindSafe(attempt).catch_unwind());
            let polled = poll_fn(|context| {
                let _polled = ticket.polled();
                attempt.as_mut().poll(context)
            });
            match timeout_at((began + limit).into(), pin!(polled)).await {
                Ok(Ok(end)) => end,
                Ok(Err(panic)) => {
                    let panicked = panicked(operation, panic_message(&*panic));
                    (End::Refused(panicked), false)
                }
                Err(_) => (End::Refused(DbError::Overran { operation, limit }), false),
            }
        };
        let (mut connection, mut follow) = lent.into_parts();
        let left = pool.under_way().leave(&ticket);
        let sound = sound && left == Left::Alone;
        let end = match end {
            // Regardless of its result.
            _ if ticket.is_undone() => End::Refused(DbError::Overran { operation, limit }),
            // Before it is acknowledged.
            End::Done if self.plan.access == Access::Write => {
                match file::verify(&connection).await {
                    Ok(()) => End::Done,
                    Err(changed) => {
                        pool.alarms().look();
                        End::Refused(DbError::FileChanged(changed))
                    }
                }
            }
            end => end,
        };
        if !sound || !connection.is_fit() {
            if left == Left::Replaced {
                pool.drop_replacement(self.module.as_deref());
            }
            connection.discard();
        }
        pool.alarms().finished();
        let took = began.elapsed();
        pool.instruments.worked(operation, took, end.outcome());
        if took >= pool.slow {
            warn!(
                operation,
                duration_ms = took.as_millis() as u64,
                "slow database work `{operation}`"
            );
        }
        if !matches!(end, End::Done) {
            follow.clear();
        }
        (end, follow)
    }

    /// Does the work in a transaction if there is a statement that begins it; says whether the connection is fit for others
    /// afterwards.
    async fn transact(
        &self,
        begin: Option<Cow<'static, str>>,
        lent: &mut TenantTx,
        piece: &mut dyn Piece,
        ticket: &Ticket,
    ) -> (End, bool) {
        let Some(begin) = begin else {
            if self.plan.access == Access::Write {
                lent.connection_state().set_irrevocable();
            }
            let succeeded = piece.attempt(lent).await;
            return (self.end_of_work(lent, succeeded), true);
        };
        if let Err(error) = lent.begin(begin).await {
            return (End::Refused(lent.classify(error)), false);
        }
        ticket.arm(|is_undone| lent.rollback_from_outside(is_undone));
        let succeeded = piece.attempt(lent).await;
        let mut end = self.end_of_work(lent, succeeded);
        if succeeded {
            match lent.prepare_commit().await {
                Ok(()) => {
                    lent.connection_state().set_irrevocable();
                    let closing = lent.tx().take_closing();
                    let is_bare = closing.is_empty();
                    let Err(error) = lent.commit(closing).await else {
                        return (end, true);
                    };
                    let refused = End::Refused(lent.classify(error));
                    // The server has rolled back, unless it is gone, which the connection knows, or did not get to the commit.
                    return (refused, is_bare || lent.rollback().await.is_ok());
                }
                Err(error) => end = End::Refused(error),
            }
        }
        (end, lent.rollback().await.is_ok())
    }

    /// The statement that begins the transaction, if there is to be one. On PostgreSQL a scope needs one: it is
    /// set for a transaction only, so that no connection carries it to the next borrower.
    fn begin(&self, connection: &Connection) -> Option<Cow<'static, str>> {
        let isolation = self.plan.isolation;
        if matches!(connection, Connection::Sqlite(_)) {
            return isolation.map(|_| "BEGIN IMMEDIATE".into());
        }
        let begin = match (isolation, self.plan.access) {
            (Some(isolation), _) => isolation.begin(),
            (None, _) if self.scope == Scope::Open => return None,
            (None, Access::Read) => "BEGIN READ ONLY",
            (None, Access::Write) => "BEGIN",
        };
        Some(self.scope.entered(begin))
    }

    fn end_of_work(&self, connection: &Connection, succeeded: bool) -> End {
        if succeeded {
            return End::Done;
        }
        let connection_state = connection.connection_state();
        End::Failed {
            conflict: connection_state.met_conflict(),
            of_database: connection_state.has_failed(),
        }
    }
}
