//! How many calls are under way at once.

use std::{
    io,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use dotmac_testkit::fakes::{FakeHttpServer, write_answer};

use super::*;

/// A server that holds back its answers until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let inside = self.inside.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(inside, SeqCst);
        let is_open = self.is_open.lock().unwrap();
        drop(
            self.opened
                .wait_while(is_open, |is_open| !*is_open)
                .unwrap(),
        );
        self.inside.fetch_sub(1, SeqCst);
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    async fn until(&self, inside: usize) {
        let holds = async {
            while self.inside.load(SeqCst) != inside {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, holds).await.unwrap();
    }
}

fn gated() -> (Arc<Gate>, FakeHttpServer) {
    let gate = Arc::<Gate>::default();
    let passed = Arc::clone(&gate);
    let server = FakeHttpServer::start(move |request, stream| -> io::Result<()> {
        if request.path() == "/slow" {
            passed.pass();
        }
        write_answer(stream, "200 OK", "")
    });
    (gate, server)
}

#[tokio::test]
async fn a_slow_host_holds_up_itself_alone() {
    let (gate, server) = gated();
    let config = Config {
        per_host: 2,
        concurrency: 3,
        ..development()
    };
    let egress = egress(config, &everything_here());
    let slow = format!("http://slow.example:{}/slow", server.port);
    let calls: Vec<_> = (0..8)
        .map(|_| tokio::spawn(egress.get(&slow).send()))
        .collect();
    gate.until(2).await;
    let quick = egress.get(format!("http://quick.example:{}/", server.port));
    assert_eq!(quick.send().await.unwrap().status, 200);
    gate.open();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(gate.most.load(SeqCst), 2);
    assert_eq!(
        egress.0.slots.known_hosts(),
        0,
        "hosts without calls are kept"
    );
}

#[tokio::test]
async fn what_listens_on_another_port_is_not_held_up() {
    let (gate, server) = gated();
    let quick = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", ""));
    let config = Config {
        per_host: 1,
        ..development()
    };
    let egress = egress(config, &everything_here());
    let slow = format!("http://here.example:{}/slow", server.port);
    let call = tokio::spawn(egress.get(slow).send());
    gate.until(1).await;
    let answer = egress.get(format!("http://here.example:{}/", quick.port));
    assert_eq!(answer.send().await.unwrap().status, 200);
    gate.open();
    assert_eq!(call.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn the_queue_for_a_host_ends_somewhere() {
    let (gate, server) = gated();
    let config = Config {
        per_host: 1,
        ..development()
    };
    let egress = egress(config, &everything_here());
    let slow = format!("http://slow.example:{}/slow", server.port);
    let calls: Vec<_> = (0..9)
        .map(|_| tokio::spawn(egress.get(&slow).send()))
        .collect();
    gate.until(1).await;
    let error = egress.get(&slow).send().await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("egress_busy", true));
    // An abandoned call leaves the queue.
    for call in calls {
        call.abort();
        drop(call.await);
    }
    assert_eq!(egress.0.slots.known_hosts(), 0);
    gate.open();
    assert_eq!(egress.get(&slow).send().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_call_that_waits_in_vain_for_its_place_was_not_tried() {
    let (gate, server) = gated();
    let config = Config {
        per_host: 1,
        ..development()
    };
    let egress = egress(config, &everything_here());
    let slow = format!("http://slow.example:{}/slow", server.port);
    let call = tokio::spawn(egress.get(&slow).send());
    gate.until(1).await;
    let waits = egress.get(&slow).timeout(Duration::from_millis(200));
    let error = waits.send().await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_arrived()),
        ("egress_busy", false)
    );
    gate.open();
    assert_eq!(call.await.unwrap().unwrap().status, 200);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn all_hosts_together_have_a_limit() {
    let (gate, server) = gated();
    let config = Config {
        per_host: 2,
        concurrency: 2,
        ..development()
    };
    let egress = egress(config, &everything_here());
    let calls: Vec<_> = (0..6)
        .map(|n| format!("http://slow{n}.example:{}/slow", server.port))
        .map(|url| tokio::spawn(egress.get(url).send()))
        .collect();
    gate.until(2).await;
    gate.open();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert!(gate.most.load(SeqCst) <= 2);
}
