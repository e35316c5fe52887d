//! Checks the database on its own connection, so that a busy pool is not taken for a dead server.
//!
//! It checks at a steady pace, and at once when the traffic reports something. What it costs does not depend on
//! how many ask for probes: they read the last verdict.
//!
//! Received bytes distinguish a slow server from an unreachable one: an answer may take seconds while parts of it
//! arrive.

mod alarms;
mod health;
mod probe;
mod pulse;

pub(crate) use alarms::{Alarms, ConnectionState};
pub(crate) use health::Health;
pub use probe::{Role, look};
pub(crate) use pulse::Heard;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{AUTHENTICATION_FAILED, Config, OpenError, Pool, instruments::Looks};

use dotmac_supervision::Reason;
use health::{Judge, Seen};
use probe::{ANSWER_LIMIT, LONGEST_LOOK, Watch, connect, silent, write_something};
use pulse::Pulse;

/// Between two looks. With [`ANSWER_LIMIT`] it bounds how long a dead database can seem ready: 1.5 s.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// The same while it is down: how long its return may go unnoticed.
const INTERVAL_WHILE_DOWN: Duration = Duration::from_millis(200);

/// Between two checks, regardless of alarms.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

/// Nor does one that was slow before, after this long.
const LONGEST_SILENCE: Duration = Duration::from_secs(4);

/// An answer that takes longer is slow: it is a constant.
const SLOW: Duration = Duration::from_millis(500);

/// Work that was under way when the server fell silent is ended after so long, for it may go on once more.
const LAST_HOPE: Duration = Duration::from_secs(1);

/// Watches one database.
pub(super) struct Monitor {
    config: Config,
    pool: Arc<Pool>,
    alarms: Alarms,
    judge: Judge,
    looks: Looks,
    connection: Option<Watch>,
    /// Tries to connect that have not ended. A further one is begun with each look, since one whose first
    /// packet was lost would wait for seconds after the server is back.
    connecting: JoinSet<Result<Watch, OpenError>>,
    /// When the server was last heard, on any connection of ours.
    pulse: Pulse,
    /// At the last look that came through our user was gone, and what was open went on in its role.
    user_gone: bool,
    /// How long the last answer took.
    answered_in: Duration,
    /// Since when the server does not answer.
    unreachable_since: Option<Instant>,
    pause: Duration,
}

impl Monitor {
    /// A monitor of a database that has just been opened, which was the first look.
    pub(super) fn new(config: Config, pool: Arc<Pool>) -> Self {
        let looks = Looks::shared();
        looks.looked();
        Self {
            alarms: pool.alarms().clone(),
            judge: Judge::new(config.pool_timeout.max(ANSWER_LIMIT)),
            looks,
            connection: None,
            connecting: JoinSet::new(),
            pulse: Pulse::new(),
            user_gone: false,
            answered_in: Duration::ZERO,
            unreachable_since: None,
            // Soon has its own connection, while it can be had.
            pause: LEAST_INTERVAL,
            pool,
            config,
        }
    }

    /// Waits until a check is due or the traffic reports something; checks, and judges. Runs on the
    /// database's runtime.
    pub(super) async fn watch(mut self) -> (Self, Health) {
        tokio::time::sleep(LEAST_INTERVAL).await;
        let pause = self.pause.saturating_sub(LEAST_INTERVAL);
        tokio::time::timeout(pause, self.alarms.raised()).await.ok();
        let mut looked = self.look().await;
        if looked.is_ok() {
            looked = self.look_closer().await;
        }
        if looked.is_ok() {
            // Bounded by the time-out for connecting, and done without a waiting caller.
            let pool = Arc::clone(&self.pool);
            drop(tokio::spawn(async move { pool.maintain().await }));
        }
        // The rest of them counts.
        self.pool.drop_unfit();
        let health = self.judge.verdict(looked, self.seen(), Instant::now());
        self.end_what_waits(&health);
        self.looks.looked();
        self.pause = match health {
            Health::Down(..) => INTERVAL_WHILE_DOWN,
            Health::Good | Health::Impaired(_) => INTERVAL,
        };
        (self, health)
    }

    /// Ends all waits for a server that does not answer: those for a connection at once, those for an answer a little
    /// later.
    fn end_what_waits(&mut self, health: &Health) {
        let unreachable = matches!(health, Health::Down(Reason::UNREACHABLE, _));
        self.alarms.set_unreachable(unreachable);
        if !unreachable {
            self.unreachable_since = None;
        } else if self
            .unreachable_since
            .get_or_insert_with(Instant::now)
            .elapsed()
            >= LAST_HOPE
        {
            self.alarms.cut_all();
        }
    }

    /// How long the server may be silent: longer where it was slow when it answered last.
    fn silence(&self) -> Duration {
        (self.answered_in * 2).clamp(ANSWER_LIMIT, LONGEST_SILENCE)
    }

    fn seen(&self) -> Seen {
        let status = self.pool.status();
        Seen {
            used_up: self.pool.is_used_up(),
            exhausted: self.alarms.exhausted_so_far(),
            finished: self.alarms.has_finished(),
            refusal: self.alarms.refusal(),
            corrupted: self.alarms.is_corrupted(),
            has_connections: status.idle + status.used > 0,
            user_gone: self.user_gone,
            slow: self.answered_in >= SLOW,
            blocked: self.pool.has_blocked_work(),
        }
    }

    /// Asks whether writes are taken.
    async fn look(&mut self) -> Result<(), OpenError> {
        // Taken out, and put back only if all went well: a doubtful connection is not asked twice.
        let connection = match self.connection.take() {
            Some(connection) if connection.is_fit() => connection,
            _ => self.connect().await?,
        };
        let verifying = self.pool.verify_file();
        let verified = self
            .pulse
            .unless_silent(ANSWER_LIMIT, LONGEST_LOOK, verifying)
            .await;
        verified.unwrap_or_else(|| Err(silent("a check", &self.config)))?;
        let asked = Instant::now();
        let asking = connection.asked(&self.config, &self.pulse, self.silence());
        let (connection, user_gone) = asking.await?;
        self.answered_in = asked.elapsed();
        self.connection = Some(connection);
        self.user_gone = user_gone;
        if user_gone {
            self.alarms.note_refusal(AUTHENTICATION_FAILED);
        }
        Ok(())
    }

    /// Checks what the traffic reported, until it is well again.
    async fn look_closer(&mut self) -> Result<(), OpenError> {
        if self.alarms.is_disk_full() {
            let connection = self.connection.take();
            let (connection, full) = write_something(connection, &self.config).await?;
            self.connection = Some(connection);
            if full {
                return Err(OpenError::DiskFull {
                    target: self.config.target.to_string(),
                });
            }
            self.alarms.disk_has_space();
        }
        if self.alarms.refusal().is_some() {
            match self.connect().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.user_gone = false;
                    self.alarms.connections_open();
                }
                Err(problem) => self.alarms.note_refusal(problem.reason()),
            }
        }
        Ok(())
    }

    /// A new connection, of whichever try is the first to succeed, unless the server falls silent.
    async fn connect(&mut self) -> Result<Watch, OpenError> {
        let (mut config, alarms) = (self.config.clone(), self.alarms.clone());
        // A server that is heard is slow, not away, although work would not wait for it so long.
        config.connect_timeout = config.connect_timeout.max(LONGEST_LOOK);
        let (pulse, silence) = (self.pulse.clone(), self.silence());
        self.connecting
            .spawn(async move { connect(&config, &alarms, &pulse).await });
        let first = async {
            let mut problem = None;
            while let Some(ended) = self.connecting.join_next().await {
                match ended.unwrap_or_else(|died| Err(OpenError::Setup(died.to_string()))) {
                    Ok(connection) => return Ok(connection),
                    Err(error) => problem = Some(error),
                }
            }
            Err(problem.unwrap_or_else(|| silent("connecting", &self.config)))
        };
        let pulse = self.pulse.clone();
        let connected = pulse.unless_silent(silence, LONGEST_LOOK, first).await;
        let connected = connected.unwrap_or_else(|| Err(silent("connecting", &self.config)));
        if connected.is_ok() {
            // None of the others is wanted; each would keep its account alive.
            self.connecting = JoinSet::new();
        }
        connected
    }
}
