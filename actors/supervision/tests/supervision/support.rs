//! An actor that executes closures of a test, with helpers to wait and to inspect.

use std::{
    fmt::Write as _,
    future::Future,
    pin::Pin,
    process::Command,
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use actix::prelude::*;
use dotmac_supervision::{
    ActorHandle, Board, CallError, Cause, ChildSpec, Lifeline, Policy, Readiness, Serving, State,
    SupervisedActor, SupervisionTree, SupervisorHandle,
};
use tracing::span::{Attributes, Id};
use tracing_subscriber::{
    Layer,
    layer::{self, SubscriberExt},
    registry::LookupSpan,
};

/// The longest that anything may take before a test fails.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Quick to restart, patient enough for a loaded machine.
pub(crate) fn policy() -> Policy {
    Policy {
        intensity: 5,
        period: Duration::from_secs(20),
        backoff_min: ms(1),
        backoff_max: ms(20),
        heartbeat: ms(20),
        hang_after: ms(2000),
        start_timeout: Duration::from_secs(20),
        stop_timeout: ms(2000),
        call_timeout: Duration::from_secs(10),
        unanswered_limit: 5,
        in_flight_limit: 256,
        max_leaked_threads: 3,
    }
}

/// Quick to notice a hang, and to give up its thread.
pub(crate) fn impatient() -> Policy {
    Policy {
        hang_after: ms(250),
        stop_timeout: ms(100),
        ..policy()
    }
}

type Hook = Option<Box<dyn FnOnce(&mut Probe, &mut Context<Probe>)>>;
type Last = Option<Box<dyn FnOnce()>>;

/// Does what a test tells it to.
pub(crate) struct Probe {
    pub(crate) life: Lifeline,
    on_start: Hook,
    on_shutdown: Hook,
    on_stopped: Last,
    on_drop: Last,
}

impl Probe {
    /// Serves from its start on.
    pub(crate) fn new(life: Lifeline) -> Self {
        Self::serving(life, Serving::default())
    }

    pub(crate) fn serving(life: Lifeline, serving: Serving) -> Self {
        Self::starting(life, move |probe, _| probe.life.ready(serving))
    }

    pub(crate) fn silent(life: Lifeline) -> Self {
        Self::starting(life, |_, _| {})
    }

    pub(crate) fn starting(
        life: Lifeline,
        on_start: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) -> Self {
        Self {
            life,
            on_start: Some(Box::new(on_start)),
            on_shutdown: None,
            on_stopped: None,
            on_drop: None,
        }
    }

    pub(crate) fn on_shutdown(
        mut self,
        hook: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) -> Self {
        self.on_shutdown = Some(Box::new(hook));
        self
    }

    pub(crate) fn on_stopped(mut self, hook: impl FnOnce() + 'static) -> Self {
        self.on_stopped = Some(Box::new(hook));
        self
    }

    pub(crate) fn on_drop(mut self, hook: impl FnOnce() + 'static) -> Self {
        self.on_drop = Some(Box::new(hook));
        self
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(hook) = self.on_start.take() {
            hook(self, context);
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(hook) = self.on_stopped.take() {
            hook();
        }
    }
}

impl SupervisedActor for Probe {
    fn shutdown(&mut self, context: &mut Self::Context) {
        match self.on_shutdown.take() {
            Some(hook) => hook(self, context),
            None => context.stop(),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

/// Which life are you? Safe to repeat.
#[derive(Message)]
#[rtype(result = "u64")]
pub(crate) struct Ping;

impl Handler<Ping> for Probe {
    type Result = u64;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> u64 {
        self.life.generation()
    }
}

/// Do this, in the handler.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Do(Action);

type Action = Box<dyn FnOnce(&mut Probe, &mut Context<Probe>) + Send>;

impl Do {
    pub(crate) fn this(act: impl FnOnce(&mut Probe, &mut Context<Probe>) + Send + 'static) -> Self {
        Self(Box::new(act))
    }
}

impl Handler<Do> for Probe {
    type Result = ();

    fn handle(&mut self, message: Do, context: &mut Self::Context) {
        (message.0)(self, context);
    }
}

/// Do this, and answer when it is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Later(pub(crate) Pin<Box<dyn Future<Output = ()> + Send>>);

impl Handler<Later> for Probe {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Later, _: &mut Self::Context) -> ResponseFuture<()> {
        message.0
    }
}

/// Runs a test on a separate actix system, with a limit.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    listen();
    System::new().block_on(async {
        tokio::time::timeout(LIMIT * 2, test)
            .await
            .expect("the test takes too long")
    })
}

/// A tree of one required child.
pub(crate) fn lone(
    policy: Policy,
    factory: impl Fn(Lifeline) -> Probe + Send + Sync + 'static,
) -> (SupervisorHandle, ActorHandle<Probe>) {
    let mut tree = SupervisionTree::new(policy).unwrap();
    let handle = tree
        .add(ChildSpec::new("probe", factory).required())
        .unwrap();
    (tree.start(), handle)
}

pub(crate) async fn act(
    handle: &ActorHandle<Probe>,
    act: impl FnOnce(&mut Probe, &mut Context<Probe>) + Send + 'static,
) -> Result<(), CallError> {
    handle.call(Do::this(act)).await
}

/// Waits until `done`; names `what` if it never comes.
pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LIMIT, "never came: {what}");
        tokio::time::sleep(ms(3)).await;
    }
}

/// Waits for a board; names `what` if it never comes.
pub(crate) async fn board(
    supervisor: &SupervisorHandle,
    what: &str,
    wanted: impl Fn(&Board) -> bool,
) -> Arc<Board> {
    match tokio::time::timeout(LIMIT, supervisor.until(wanted)).await {
        Ok(board) => board,
        Err(_) => panic!("never came: {what}; now: {:?}", supervisor.board()),
    }
}

pub(crate) async fn ready(supervisor: &SupervisorHandle) {
    board(supervisor, "readiness", |board| {
        board.readiness == Readiness::Ready
    })
    .await;
}

/// Waits until the child serves in that life or a later one.
pub(crate) async fn in_life(supervisor: &SupervisorHandle, name: &str, generation: u64) {
    let what = format!("life {generation} of {name}");
    board(supervisor, &what, |board| {
        let component = board.component(name).unwrap();
        component.generation >= generation && component.state == State::Ready
    })
    .await;
}

pub(crate) fn generation(supervisor: &SupervisorHandle, name: &str) -> u64 {
    supervisor.board().component(name).unwrap().generation
}

/// How often a child was restarted for that cause.
pub(crate) fn restarts(handle: &ActorHandle<Probe>, cause: Cause) -> u64 {
    let vitals = handle.vitals();
    let found = vitals.restarts.iter().find(|(of, _)| *of == cause);
    found.unwrap().1
}

/// Holds up the current thread, as a careless actor does.
#[expect(clippy::disallowed_methods, reason = "to block is the point")]
pub(crate) fn block(time: Duration) {
    std::thread::sleep(time);
}

/// What actors did, in the order in which they did it.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, entry: impl Into<String>) {
        self.lock().push(entry.into());
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the test of that full name in its own process, where no other test is in the way.
/// Gives what it wrote to its standard error, or `None` in that process itself: go on with the test.
pub(crate) fn in_own_process(name: &str) -> Option<String> {
    const MARK: &str = "DOTMAC_TEST_IN_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return None;
    }
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{name} failed: {said}");
    Some(said)
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static SPANS: Mutex<Vec<(String, Vec<&'static str>)>> = Mutex::new(Vec::new());

/// Whether a line was logged that has all of `parts`.
pub(crate) fn logged(parts: &[&str]) -> bool {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter()
        .any(|line| parts.iter().all(|part| line.contains(part)))
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(LogCapture);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// The name of the span in which the child starts that has this name, and those of the spans around it.
pub(crate) fn start_spans(child: &str) -> Vec<&'static str> {
    let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    let of_child = spans
        .iter()
        .find(|(component, _)| component.contains(child));
    of_child.map(|(_, names)| names.clone()).unwrap_or_default()
}

/// Keeps warnings and errors for [`logged`], and spans of starts for [`start_spans`].
struct LogCapture;

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for LogCapture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        if attributes.metadata().name() != "start component" {
            return;
        }
        let mut component = String::new();
        attributes.record(
            &mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                write!(component, "{value:?}").unwrap();
            },
        );
        let names = context.span_scope(id).into_iter().flatten();
        let names = names.map(|span| span.name()).collect();
        let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        spans.push((component, names));
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        if *event.metadata().level() > tracing::Level::WARN {
            return;
        }
        let mut line = event.metadata().level().to_string();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                write!(line, " {field}={value:?}").unwrap();
            },
        );
        // The panic hook leaves a failed assertion to the log: show it where a test would.
        if line.contains("panic.message") && !line.contains("actor.name") {
            eprintln!("{line}");
        }
        LOG.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}
