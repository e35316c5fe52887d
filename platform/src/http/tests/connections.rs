//! The limits of a connection: the time a client may keep it waiting, and the effects of its end.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Instant,
};

use super::{super::testing::Live, *};

/// Longer than anything takes here on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

const SHORT: Duration = Duration::from_millis(300);

fn live(config: Config) -> Result<Live, Failure> {
    Live::start(config, mounted(&Staged::new(Readiness::Ready)))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A client that is talked to on its own thread: the server has this one.
async fn client<T: Send + 'static>(
    server: &Live,
    talk: impl FnOnce(TcpStream) -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let address = server.address;
    let talk = move || {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        talk(stream)
    };
    Ok(tokio::task::spawn_blocking(talk).await??)
}

/// Sends a request and reads the head of its answer, with what comes along.
fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    stream.write_all(get(path).as_bytes())?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// Everything until the server hangs up.
fn rest(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    Ok(rest)
}

/// Waits until the server has given the connection up, without reading from it.
fn until_reset(stream: &TcpStream) -> std::io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(error) = stream.take_error()? {
            let is_reset = error.kind() == ErrorKind::ConnectionReset;
            return if is_reset { Ok(()) } else { Err(error) };
        }
        std::thread::yield_now();
    }
    Err(ErrorKind::TimedOut.into())
}

/// A request whose answer no socket can hold, on a connection that is not read from.
fn ask_for_too_much(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(get("/try/page?size=30000000").as_bytes())
}

#[actix_web::test]
async fn half_a_request_after_a_whole_one_is_given_up() -> Outcome {
    let server = live(Config {
        header_timeout: SHORT,
        keep_alive: Duration::from_secs(600),
        ..config()
    })?;
    let (first, rest) = client(&server, |mut stream| {
        let first = ask(&mut stream, "/try/number/7")?;
        stream.write_all(b"GET /try/number/8 HTTP/1.1\r\nHo")?;
        Ok((first, rest(&mut stream)?))
    })
    .await?;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(rest.starts_with("HTTP/1.1 408"), "{rest}");
    Ok(())
}

#[actix_web::test]
async fn a_client_that_sends_its_request_in_drops_is_given_up() -> Outcome {
    let server = live(Config {
        header_timeout: SHORT,
        ..config()
    })?;
    let answer = client(&server, |mut stream| {
        stream.write_all(b"GET /try/number/8 HTTP/1.1\r\n")?;
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut answer = [0; 100];
        while begun.elapsed() < PATIENCE {
            stream.write_all(b"a: b\r\n")?;
            match stream.read(&mut answer) {
                Ok(read) => return Ok(String::from_utf8_lossy(&answer[..read]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::TimedOut.into())
    })
    .await?;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    Ok(())
}

#[actix_web::test]
async fn an_idle_connection_is_closed_without_a_word() -> Outcome {
    for half in ["", "GET /try/number/8 HTTP/1.1\r\nHo"] {
        let server = live(Config {
            keep_alive: SHORT,
            header_timeout: Duration::from_secs(600),
            ..config()
        })?;
        let rest = client(&server, move |mut stream| {
            // A part of a request that came with the previous one does not count.
            stream.write_all(format!("{}{half}", get("/try/number/7")).as_bytes())?;
            rest(&mut stream)
        })
        .await?;
        assert!(rest.ends_with("\r\n\r\n7"), "{rest}");
    }
    Ok(())
}

/// The worker blocks for longer than clients may take. What they sent meanwhile counts.
#[actix_web::test]
async fn a_blocked_worker_blames_no_client() -> Outcome {
    let server = live(Config {
        header_timeout: SHORT,
        keep_alive: SHORT,
        ..config()
    })?;
    let (kept, fresh) = client(&server, |mut blocking| {
        let address = blocking.peer_addr()?;
        let mut kept = TcpStream::connect(address)?;
        ask(&mut kept, "/try/number/7")?;
        let mut fresh = TcpStream::connect(address)?;
        // The worker has taken the new connection when it answers here.
        ask(&mut kept, "/try/number/7")?;
        blocking.write_all(get("/try/block").as_bytes())?;
        super::sample::until_blocked();
        kept.write_all(get("/health").as_bytes())?;
        fresh.write_all(get("/health").as_bytes())?;
        let mut answers = [[0; 4096]; 2];
        for (stream, answer) in [&mut kept, &mut fresh].into_iter().zip(&mut answers) {
            stream.set_read_timeout(Some(PATIENCE))?;
            let _ = stream.read(answer)?;
        }
        Ok(answers
            .map(|answer| String::from_utf8_lossy(&answer).into_owned())
            .into())
    })
    .await?;
    assert!(fresh.starts_with("HTTP/1.1 200"), "{fresh}");
    assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");
    Ok(())
}

#[actix_web::test]
async fn a_client_that_reads_nothing_is_disconnected() -> Outcome {
    let server = live(Config {
        write_timeout: SHORT,
        ..config()
    })?;
    client(&server, |mut stream| {
        ask_for_too_much(&mut stream)?;
        until_reset(&stream)
    })
    .await
}

#[actix_web::test]
async fn a_client_that_reads_slowly_gets_its_answer() -> Outcome {
    let server = live(Config {
        write_timeout: Duration::from_secs(2),
        ..config()
    })?;
    let bytes = client(&server, |mut stream| {
        ask_for_too_much(&mut stream)?;
        let (mut bytes, mut piece) = (0, vec![0; 1 << 20]);
        while !piece.is_empty() {
            let read = stream.read(&mut piece)?;
            bytes += read;
            if read == 0 || bytes > 30_000_000 {
                break;
            }
            #[expect(clippy::disallowed_methods, reason = "this thread is a slow client")]
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(bytes)
    })
    .await?;
    assert!(bytes > 30_000_000, "{bytes}");
    Ok(())
}

#[actix_web::test]
async fn a_stop_does_not_wait_for_a_client_that_reads_nothing() -> Outcome {
    let server = live(Config {
        write_timeout: Duration::from_secs(3600),
        shutdown_timeout: Duration::from_secs(3600),
        ..config()
    })?;
    let stream = client(&server, |mut stream| {
        ask_for_too_much(&mut stream)?;
        let mut first = [0; 1];
        stream.read_exact(&mut first)?;
        Ok(stream)
    })
    .await?;
    tokio::time::timeout(PATIENCE, server.handle.stop(true)).await?;
    drop(stream);
    Ok(())
}

/// Waits until so many handlers are held.
async fn until_held(count: usize) {
    let begun = Instant::now();
    while super::sample::held_now() != count {
        assert!(begun.elapsed() < PATIENCE, "{count} should be held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client that closes its connection, by FIN or by RST, needs no answer.
#[actix_web::test]
async fn a_client_that_hangs_up_ends_its_handler() -> Outcome {
    for reset in [false, true] {
        let server = live(config())?;
        let stream = client(&server, move |mut stream| {
            let linger = reset.then_some(Duration::ZERO);
            socket2::SockRef::from(&stream).set_linger(linger)?;
            stream.write_all(get("/try/held").as_bytes())?;
            Ok(stream)
        })
        .await?;
        until_held(1).await;
        drop(stream);
        until_held(0).await;
    }
    Ok(())
}
