//! Processes that are killed while they send, at each step of a message, counted at the far end: what the relay took and what a
//! receiver of webhooks got, against what the deliveries say.
//!
//! The far end kills: relay and receiver are in this process, and end the senders at the very step that a round is about. No
//! round waits for anything else, so there are some kills a second.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Instant,
};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::timeout};

use super::*;
use crate::support::{
    process::kill_now,
    relay::{FakeRelay, RelayStep},
};

/// Mails, and as many events, that each process is given in a round.
const EACH: usize = 4;

/// What a round waits at the most for its step: it may be that no message gets there.
const LONGEST: Duration = Duration::from_secs(2);

/// What the messages are in the middle of when the processes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The process starts.
    Start,
    /// A request was acknowledged.
    Accepted,
    /// A mail has come so far.
    Relay(RelayStep),
    /// The receiver of a webhook has the request, and has not answered.
    Called,
    /// It has answered.
    CallAnswered,
}

const STEPS: [Step; 11] = [
    Step::Start,
    Step::Accepted,
    Step::Relay(RelayStep::Connect),
    Step::Relay(RelayStep::Ehlo),
    Step::Relay(RelayStep::Mail),
    Step::Relay(RelayStep::Rcpt),
    Step::Relay(RelayStep::Data),
    Step::Relay(RelayStep::Content),
    Step::Relay(RelayStep::Answered),
    Step::Called,
    Step::CallAnswered,
];

/// Kills on each back end: each step once, unless `DOTMAC_FAULT_KILLS` says how many there are on both together.
fn kills(at_once: usize) -> usize {
    let given = std::env::var("DOTMAC_FAULT_KILLS").ok();
    given.map_or(STEPS.len() * at_once, |it| it.parse::<usize>().unwrap() / 2)
}

/// Kills processes once a step is reached for so many times.
#[derive(Default)]
struct Trigger {
    armed: Mutex<Option<(Step, u32, Vec<u32>)>>,
    fired: Notify,
}

impl Trigger {
    fn arm(&self, step: Step, after: u32, pids: Vec<u32>) {
        *self.armed.lock().unwrap() = Some((step, after, pids));
    }

    fn pass(&self, step: Step) {
        let mut armed = self.armed.lock().unwrap();
        match &mut *armed {
            Some((wanted, 0, pids)) if *wanted == step => {
                pids.drain(..).for_each(kill_now);
                *armed = None;
                self.fired.notify_one();
            }
            Some((wanted, left, _)) if *wanted == step => *left -= 1,
            _ => {}
        }
    }

    /// Waits until the processes are killed; whether they were at their step.
    async fn until_fired(&self) -> bool {
        let fired = timeout(LONGEST, self.fired.notified()).await.is_ok();
        *self.armed.lock().unwrap() = None;
        fired
    }
}

/// The far end of everything.
struct FarEnd {
    trigger: Arc<Trigger>,
    relay: FakeRelay,
    receiver: FakeHttpServer,
}

impl FarEnd {
    fn start() -> Self {
        let trigger = Arc::<Trigger>::default();
        let (at_relay, at_receiver) = (Arc::clone(&trigger), Arc::clone(&trigger));
        Self {
            trigger,
            relay: FakeRelay::start(move |step| at_relay.pass(Step::Relay(step))),
            receiver: FakeHttpServer::start(move |_, stream| {
                at_receiver.pass(Step::Called);
                let written = write_answer(stream, "204 No Content", "");
                at_receiver.pass(Step::CallAnswered);
                written
            }),
        }
    }
}

fn sending(url: &str, port: u16) -> Builder {
    mailing(url, port)
        .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
        .env("DOTMAC_WEBHOOKS_RETRIES", ["100ms,200ms"; 10].join(","))
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "warn,dotmac_platform=info")
}

/// The acknowledged items.
#[derive(Default)]
struct Acknowledged {
    /// Ids of deliveries by mail.
    mails: Vec<String>,
    /// Ids of events.
    events: Vec<String>,
}

/// Sends some mails and events, until that is done or the process is gone.
async fn write(daemon: &Daemon, round: usize, trigger: &Trigger) -> Acknowledged {
    let mut kept = Acknowledged::default();
    let port = daemon.base.rsplit(':').next().unwrap_or_default();
    for number in 0..EACH {
        let address = format!("a{round}.{port}.{number}@example.com");
        let event = json!({ "type": "custom.order.paid.v1", "subject": "orders/7", "data": {} });
        for (path, body) in [
            (NOTIFICATIONS, mail_to(&address)),
            ("/api/v1/events", event),
        ] {
            let made = loop {
                let request = daemon.client.post(format!("{}{path}", daemon.base));
                let Ok(answer) = request.bearer_auth(ONE).json(&body).send().await else {
                    return kept;
                };
                let status = answer.status().as_u16();
                let Ok(made) = answer.json::<Value>().await else {
                    return kept;
                };
                match status {
                    201 | 202 => break made,
                    // It is not ready yet, or does not know what became of it: then it is no acknowledgement.
                    503 => tokio::time::sleep(Duration::from_millis(5)).await,
                    _ => panic!("{path}: {status} {made}"),
                }
            };
            match made["deliveries"][0]["id"].as_str() {
                Some(id) => kept.mails.push(id.to_owned()),
                None => kept.events.push(made["id"].as_str().unwrap().to_owned()),
            }
            trigger.pass(Step::Accepted);
        }
    }
    kept
}

/// All deliveries by mail: id and state.
async fn deliveries(one: &Client<'_>) -> BTreeMap<String, String> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("{DELIVERIES}?channel=email&limit=200{cursor}");
        let page = one.get(&path).await.1;
        for it in page["items"].as_array().unwrap() {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            found.insert(text("id"), text("state"));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Lets go on what was parked, since its process was killed three times while it ran; how many jobs that were.
async fn unpark(one: &Client<'_>) -> usize {
    let parked = one.get(&format!("{JOBS}?state=parked&limit=200")).await.1;
    let parked = parked["items"].as_array().unwrap();
    for job in parked {
        let path = format!("{JOBS}/{}/retry", job["id"].as_str().unwrap());
        let retried = one.post(&path, json!({})).await;
        assert!(matches!(retried.0, 200 | 202 | 409), "{retried:?}");
    }
    parked.len()
}

/// What a campaign has counted.
#[derive(Debug, Default)]
struct Counted {
    killed: usize,
    /// Of these, those that were at the step of their round.
    at_their_step: usize,
    accepted: usize,
    unknown_taken: usize,
    unknown_not_taken: usize,
    parked: usize,
    events: usize,
    calls: usize,
}

/// Kills at least `kills` processes, `at_once` of them in each round, on one database.
async fn campaign(url: &str, at_once: usize, kills: usize) -> Counted {
    let far = FarEnd::start();
    let (mut kept, mut counted) = (Acknowledged::default(), Counted::default());
    let first = sending(url, far.relay.port).spawn().await;
    first.until("/ready", 200).await;
    let hook = json!({ "url": far.receiver.address(), "events": ["custom.*"] });
    let made = client(&first, ONE).post("/api/v1/webhooks", hook).await;
    assert_eq!(made.0, 201, "{made:?}");
    let mut directories = vec![first.kill()];
    directories.resize_with(at_once, || tempfile::tempdir().unwrap());
    let mut start_takes = Duration::from_millis(100);
    for round in 0.. {
        if counted.killed >= kills {
            break;
        }
        let step = STEPS[round % STEPS.len()];
        let began = Instant::now();
        let started = directories.drain(..);
        let mut daemons: Vec<_> = started
            .map(|directory| sending(url, far.relay.port).begin_in(directory))
            .collect();
        if step == Step::Start {
            tokio::time::sleep(start_takes.mul_f64(1.2 * fastrand::f64())).await;
            counted.at_their_step += daemons.len();
        } else {
            join_all(daemons.iter_mut().map(Daemon::listens)).await;
            start_takes = began.elapsed();
            let pids = daemons.iter().map(Daemon::pid).collect();
            let after = match step {
                // The first of a process, or one of a few.
                Step::Relay(RelayStep::Connect | RelayStep::Ehlo) => 0,
                _ => fastrand::u32(0..3),
            };
            far.trigger.arm(step, after, pids);
            let writing = daemons.iter().map(|it| write(it, round, &far.trigger));
            for written in join_all(writing).await {
                kept.mails.extend(written.mails);
                kept.events.extend(written.events);
            }
            if far.trigger.until_fired().await {
                counted.at_their_step += daemons.len();
            }
        }
        counted.killed += daemons.len();
        directories = daemons.into_iter().map(Daemon::kill).collect();
    }
    let last = sending(url, far.relay.port).spawn_in(directories.remove(0));
    let last = last.await;
    last.until("/ready", 200).await;
    let one = client(&last, ONE);
    let (mut left, parked) = (usize::MAX, Cell::new(0));
    while left > 0 {
        // While it goes on.
        left = eventually("fewer mails to wait", || async {
            parked.set(parked.get() + unpark(&one).await);
            let waiting = one
                .get(&format!("{DELIVERIES}?state=queued&limit=200"))
                .await
                .1;
            let now = waiting["items"].as_array()?.len();
            (now < left).then_some(now)
        })
        .await;
    }
    counted.parked = parked.get();
    check(&one, &far, &kept, &mut counted).await;
    counted
}

/// Compares what was acknowledged, what the deliveries say, and what the far end has.
async fn check(one: &Client<'_>, far: &FarEnd, kept: &Acknowledged, counted: &mut Counted) {
    let states = deliveries(one).await;
    let taken = far.relay.taken();
    for id in &kept.mails {
        let state = states.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        match (&**state, taken.get(id).copied().unwrap_or_default()) {
            ("accepted", 1) => counted.accepted += 1,
            // The relay's answer was not written down.
            ("unknown", 0) => counted.unknown_not_taken += 1,
            ("unknown", 1) => counted.unknown_taken += 1,
            found => panic!("{id}: {found:?}"),
        }
    }
    // Those too whose answer the client did not see.
    for (id, count) in &taken {
        assert!(
            *count == 1 && states.contains_key(id),
            "{id} was sent {count} times"
        );
    }
    assert!(counted.accepted > 0, "{states:?}");
    eventually("every event to arrive", || async {
        let asked = far.receiver.asked();
        let arrived: BTreeSet<_> = asked
            .iter()
            .filter_map(|it| it.header("webhook-id"))
            .collect();
        let mut events = kept.events.iter();
        events.all(|it| arrived.contains(&**it)).then_some(())
    })
    .await;
    counted.events = kept.events.len();
    counted.calls = far.receiver.asked().len();
}

fn report(counted: &[Counted], took: Duration) {
    let killed: usize = counted.iter().map(|it| it.killed).sum();
    let hundred = took.as_secs_f64() * 100.0 / killed as f64;
    println!("{killed} processes killed in {took:.0?}, 100 in {hundred:.1} s: {counted:#?}");
    // A step that no message comes to would be no test of it.
    let at_step: usize = counted.iter().map(|it| it.at_their_step).sum();
    assert!(
        at_step * 2 > killed,
        "{at_step} of {killed} were at their step"
    );
}

#[tokio::test]
async fn no_message_is_lost_or_doubled_when_processes_are_killed_on_sqlite() {
    // One process has a database; several databases have both cores.
    let (began, kills) = (Instant::now(), kills(1));
    let databases = if kills > STEPS.len() { 3 } else { 1 };
    let each = kills.div_ceil(databases);
    let counted = (0..databases).map(|_| campaign("sqlite:dotmac.db", 1, each));
    report(&join_all(counted).await, began.elapsed());
}

#[tokio::test]
async fn no_message_is_lost_or_doubled_when_processes_are_killed_on_postgresql() {
    let (postgres, began) = (Postgres::start().await, Instant::now());
    let counted = campaign(&postgres.url(), 3, kills(3)).await;
    report(&[counted], began.elapsed());
}
