//! The connections of one worker, checked ten times a second.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::{
    Connections, Cut,
    limits::{Ending, Phase, TICK},
    state::ConnectionState,
};

/// Time as a worker counts it: how often it has checked its connections. It does not advance while the
/// worker is blocked, and while it has no connection.
#[derive(Clone, Default)]
pub(super) struct Clock(Rc<Cell<u64>>);

impl Clock {
    pub(super) fn now(&self) -> u64 {
        self.0.get()
    }
}

/// The connections of one worker.
pub(super) struct Worker {
    shared: Arc<Connections>,
    clock: Clock,
    connections: RefCell<Vec<Rc<ConnectionState>>>,
    arrived: Notify,
}

impl Worker {
    /// Starts to check the connections of [`watch`](Self::watch). Must be called on the
    /// worker's thread; goes on until that ends.
    pub(super) fn start(shared: Arc<Connections>) -> Rc<Self> {
        let worker = Rc::new(Self {
            shared,
            clock: Clock::default(),
            connections: RefCell::default(),
            arrived: Notify::new(),
        });
        actix_rt::spawn(Rc::clone(&worker).run());
        worker
    }

    pub(super) fn shared(&self) -> &Arc<Connections> {
        &self.shared
    }

    /// Looks after a new connection, which is in `phase`.
    pub(super) fn watch(self: &Rc<Self>, phase: Phase) -> Watched {
        self.shared.open.fetch_add(1, Relaxed);
        let state = Rc::new(ConnectionState::new(self.clock.clone(), phase));
        self.connections.borrow_mut().push(Rc::clone(&state));
        self.arrived.notify_one();
        Watched {
            worker: Rc::clone(self),
            state,
        }
    }

    async fn run(self: Rc<Self>) {
        let mut ticks = interval(TICK);
        // After a pause the clock goes on, it does not catch up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.connections.borrow().is_empty() {
                self.arrived.notified().await;
            }
            ticks.tick().await;
            self.sweep();
            self.shared.report();
        }
    }

    /// One turn of the clock: ends what is beyond its limit, forgets what has ended.
    fn sweep(&self) {
        self.clock.0.set(self.clock.now() + 1);
        let situation = self.shared.situation();
        let mut connections = self.connections.borrow_mut();
        connections.retain(|state| {
            // The owner of the connection has gone.
            if Rc::strong_count(state) == 1 {
                return false;
            }
            if state.ending() == Some(Ending::Abort) {
                return true;
            }
            if let Some((ending, cut)) = self.shared.limits.verdict(state.seen(), situation) {
                if let Some(cut) = cut.filter(|_| state.ending().is_none()) {
                    self.shared.count(cut);
                }
                state.end(ending);
            }
            true
        });
        // The memory of a crowd is given back when it has gone.
        let many = connections.len().max(1024) * 4;
        if connections.capacity() > many {
            connections.shrink_to(many / 2);
        }
    }
}

/// A connection that is looked after for as long as this lives.
pub(super) struct Watched {
    worker: Rc<Worker>,
    state: Rc<ConnectionState>,
}

impl Watched {
    pub(super) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    pub(super) fn count(&self, cut: Cut) {
        self.worker.shared.count(cut);
    }
}

impl Deref for Watched {
    type Target = ConnectionState;

    fn deref(&self) -> &ConnectionState {
        &self.state
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.worker.shared.open.fetch_sub(1, Relaxed);
    }
}
