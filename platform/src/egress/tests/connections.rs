//! Connections that are used again, and those that must not be.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// A server on all addresses of this machine that counts connections, and answers so many requests by each.
struct Counting {
    accepted: Arc<AtomicUsize>,
    port: u16,
}

impl Counting {
    fn start(answers: usize) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, SeqCst);
                thread::spawn(move || drop(answer(stream, answers)));
            }
        });
        Self { accepted, port }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }
}

/// Answers so many requests without a body, and closes the connection without a word.
fn answer(mut stream: TcpStream, answers: usize) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    for _ in 0..answers {
        loop {
            match lines.next() {
                Some(Ok(line)) if line.is_empty() => break,
                Some(Ok(_)) => {}
                _ => return Ok(()),
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
    Ok(())
}

/// Lets the tasks of connections run that are not used any more.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn calls_for_which_the_same_addresses_are_judged_use_one_connection() {
    let server = Counting::start(100);
    // A resolver turns the addresses that it has.
    let lookup = FakeLookup::new(|_, asked| match asked % 2 {
        0 => vec![LOOPBACK, address("127.0.0.3")],
        _ => vec![address("127.0.0.3"), LOOPBACK],
    });
    let egress = egress(development(), &lookup);
    for _ in 0..5 {
        let answer = egress.get(server.url("here.example")).send().await.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"ok"[..]));
        settle().await;
    }
    assert_eq!((server.accepted(), lookup.asked()), (1, 5));
    // Another host has its own, though it is at the same address.
    egress
        .get(server.url("other.example"))
        .send()
        .await
        .unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_name_that_means_something_else_now_finds_no_open_connection() {
    let server = Counting::start(100);
    let lookup = FakeLookup::new(|_, asked| match asked {
        0 | 3 => vec![LOOPBACK],
        1 => vec![address("127.0.0.2")],
        _ => vec![address("169.254.169.254")],
    });
    let egress = egress(development(), &lookup);
    let call = || egress.get(server.url("here.example")).send();
    assert_eq!(call().await.unwrap().address, Some(LOOPBACK));
    assert_eq!(
        call().await.unwrap().address,
        Some(address("127.0.0.2")),
        "not by the connection that is open"
    );
    assert_eq!(server.accepted(), 2);
    settle().await;
    // The connections are open still, and the verdict is of this call.
    assert_eq!(call().await.unwrap_err().code(), "blocked_address");
    assert_eq!(call().await.unwrap().address, Some(LOOPBACK));
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_the_host_closed_is_replaced() {
    let server = Counting::start(1);
    let egress = egress(development(), &everything_here());
    for count in 1..=3 {
        let call = egress.post(server.url("here.example")).body("");
        assert_eq!(call.send().await.unwrap().status, 200);
        assert_eq!(server.accepted(), count);
        settle().await;
    }
}

#[test]
fn no_call_depends_on_the_runtime_of_another() {
    let server = Counting::start(100);
    let egress = egress(development(), &everything_here());
    let url = server.url("here.example");
    for count in 1..=3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 0..2 {
                assert_eq!(egress.get(&url).send().await.unwrap().status, 200);
                settle().await;
            }
        });
        assert_eq!(server.accepted(), count);
    }
}

#[tokio::test]
async fn there_is_a_limit_to_what_is_kept() {
    let server = Counting::start(100);
    let config = Config {
        per_host: 2,
        concurrency: 4,
        ..development()
    };
    let egress = egress(config, &everything_here());
    for number in 0..20 {
        let url = server.url(&format!("host{number}.example"));
        assert_eq!(egress.get(url).send().await.unwrap().status, 200);
    }
    assert_eq!(egress.0.pool.len(), 4);
    // Two for each call, the lookups, and four clients of two connections.
    assert_eq!(
        egress.most_descriptors(),
        8 + super::super::lookup::LOOKUPS + 8
    );
}

#[tokio::test]
async fn it_is_known_whether_a_host_may_have_been_given_the_request() {
    let closed = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let egress = egress(development(), &everything_here());
    let refused = egress.post(format!("http://here.example:{port}/"));
    let error = refused.body("a").send().await.unwrap_err();
    assert!(!error.may_have_arrived(), "{error:?}");

    let silent = Counting::start(0);
    let error = egress.post(silent.url("here.example")).body("a");
    let error = error.send().await.unwrap_err();
    assert_eq!(error.code(), "connection_failed");
    assert!(error.may_have_arrived(), "{error:?}");

    let hanging = dotmac_testkit::fakes::FakeSilentServer::start();
    let late = egress.post(format!("http://here.example:{}/", hanging.port));
    let late = late.timeout(Duration::from_millis(100)).body("a");
    let error = late.send().await.unwrap_err();
    assert_eq!(error.code(), "timeout");
    assert!(error.may_have_arrived(), "{error:?}");
}
