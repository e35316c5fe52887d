//! Whether a server is slow or gone: a slow one is heard, if late.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};

/// How often a wait notices whether this process runs. What wakes up later than that by as much has not run.
const STEP: Duration = Duration::from_millis(250);

/// When the server was last heard, on any of the connections that have a clone of this.
#[derive(Clone)]
pub(crate) struct Pulse {
    epoch: Instant,
    /// Microseconds after `epoch`.
    last: Arc<AtomicU64>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: Arc::default(),
        }
    }

    /// The server was heard now.
    pub(crate) fn beat(&self) {
        let now = self.epoch.elapsed().as_micros() as u64;
        self.last.store(now, Relaxed);
    }

    fn last(&self) -> Instant {
        self.epoch + Duration::from_micros(self.last.load(Relaxed))
    }

    /// The result of `answer`, or `None` once nothing has been heard for `silence`, or at `longest` at the latest. Time
    /// in which this process did not run is no silence: what was said meanwhile has not been read yet.
    pub(crate) async fn unless_silent<T>(
        &self,
        silence: Duration,
        longest: Duration,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut answer = pin!(answer);
        let begun = Instant::now();
        let end = begun + longest;
        // When something was heard, or would have been if this process had run all the time.
        let mut heard = begun;
        loop {
            heard = self.last().max(heard);
            let until = (heard + silence).min(end);
            let step = until.min(Instant::now() + STEP);
            if let Ok(answer) = timeout_at(step, answer.as_mut()).await {
                return Some(answer);
            }
            let late = Instant::now().saturating_duration_since(step);
            if late > STEP {
                heard += late;
            }
            let until = (self.last().max(heard) + silence).min(end);
            if until <= Instant::now() {
                return None;
            }
        }
    }
}

/// A stream to a server as it comes from the network, encrypted or not: each read is a beat.
pub(crate) struct Heard<S> {
    stream: S,
    pulse: Pulse,
}

impl<S> Heard<S> {
    /// `stream`, which has just been opened.
    pub(crate) fn new(stream: S, pulse: Pulse) -> Self {
        pulse.beat();
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.pulse.beat();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const SILENCE: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);

    /// The result of an answer after `seconds`, with a beat each `beat` milliseconds; and its time.
    async fn outcome(seconds: u64, beat: u64) -> (bool, u64) {
        let pulse = Pulse::new();
        let beating = {
            let pulse = pulse.clone();
            tokio::spawn(async move {
                loop {
                    sleep(Duration::from_millis(beat)).await;
                    pulse.beat();
                }
            })
        };
        let begun = Instant::now();
        let answer = sleep(Duration::from_secs(seconds));
        let answered = pulse.unless_silent(SILENCE, LONGEST, answer).await;
        beating.abort();
        (answered.is_some(), begun.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for_while_the_server_is_heard_and_no_longer() {
        assert_eq!(outcome(3, 600).await, (true, 3000));
        let (answered, after) = outcome(3, 1_000_000).await;
        assert!(!answered && (1000..1100).contains(&after), "{after}");
        // The last beat is at 1200 ms.
        let (answered, after) = outcome(3, 1200).await;
        assert!(!answered && (1000..1100).contains(&after), "{after}");
        let (answered, after) = outcome(60, 300).await;
        assert!(!answered && (10_000..10_100).contains(&after), "{after}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_did_not_run_takes_no_server_for_silent() {
        let pulse = Pulse::new();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let asking = pulse.unless_silent(SILENCE, LONGEST, answered);
        let stopped = async {
            sleep(Duration::from_millis(10)).await;
            tokio::time::advance(Duration::from_secs(3)).await;
            // The answer that came meanwhile is read only now.
            sleep(Duration::from_millis(20)).await;
            answer.send(()).ok();
        };
        let (answered, ()) = tokio::join!(asking, stopped);
        assert!(answered.is_some());
        // A server that is silent is noticed all the same, and not after the longest wait.
        let begun = Instant::now();
        let silent = pulse.unless_silent(SILENCE, LONGEST, std::future::pending::<()>());
        let (answered, ()) = tokio::join!(silent, async {
            sleep(Duration::from_millis(10)).await;
            tokio::time::advance(Duration::from_secs(3)).await;
        });
        let after = begun.elapsed().as_millis();
        assert!(
            answered.is_none() && (3700..4300).contains(&after),
            "{after}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_before_the_question_does_not_count() {
        let pulse = Pulse::new();
        pulse.beat();
        sleep(Duration::from_secs(5)).await;
        let begun = Instant::now();
        let answer = std::future::pending::<()>();
        let answered = pulse.unless_silent(SILENCE, LONGEST, answer).await;
        assert!(answered.is_none());
        assert_eq!(begun.elapsed().as_secs(), 1);
    }
}
