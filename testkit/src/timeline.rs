//! The order of events in a test: starts, ends and signals of processes, faults of proxies, and all output, each with its
//! time. A test that fails prints it when its first process is dropped.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Most events that are kept: the last ones.
const KEPT: usize = 400;

/// Longest text of one, in characters.
const TEXT: usize = 240;

thread_local! {
    /// That of the test on this thread.
    static OF_THIS_TEST: RefCell<Option<Arc<Timeline>>> = const { RefCell::new(None) };
}

/// The events of one test.
pub(crate) struct Timeline {
    began: Instant,
    events: Mutex<VecDeque<(Duration, String)>>,
    is_printed: AtomicBool,
}

impl Timeline {
    /// That of the test on this thread.
    pub(crate) fn of_this_test() -> Arc<Self> {
        OF_THIS_TEST.with_borrow_mut(|timeline| {
            let new = || Self {
                began: Instant::now(),
                events: Mutex::default(),
                is_printed: AtomicBool::new(false),
            };
            Arc::clone(timeline.get_or_insert_with(|| Arc::new(new())))
        })
    }

    pub(crate) fn note(&self, event: String) {
        let at = self.began.elapsed();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back((at, event.chars().take(TEXT).collect()));
    }

    /// Prints it once, if the test on this thread fails.
    pub(crate) fn print_if_failing(&self) {
        if std::thread::panicking() && !self.is_printed.swap(true, Relaxed) {
            eprintln!("the last events of the test:\n{}", self.text());
        }
    }

    fn text(&self) -> String {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (at, event) in &*events {
            writeln!(text, "{:>9.3} s  {event}", at.as_secs_f64()).unwrap_or_default();
        }
        text
    }
}

/// Adds an event to the timeline of the test on this thread.
pub fn note(event: impl Into<String>) {
    Timeline::of_this_test().note(event.into());
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::Process;

    #[test]
    fn events_and_output_are_in_their_order() {
        let mut shell = Process::spawn(Command::new("sh").args(["-c", "echo hello; sleep 60"]));
        let begun = Instant::now();
        while shell.lines().is_empty() && begun.elapsed() < crate::PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        shell.signal("STOP");
        note("the test kills it");
        shell.kill();
        let text = Timeline::of_this_test().text();
        let places = [
            "starts",
            "| hello",
            "SIGSTOP",
            "the test kills it",
            "killed",
        ];
        let places = places.map(|event| text.find(event));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{text}"
        );
    }

    #[test]
    fn the_last_events_are_kept() {
        let events = 2 * KEPT;
        (0..events).for_each(|number| note(format!("event {number}")));
        let text = Timeline::of_this_test().text();
        assert_eq!(text.lines().count(), KEPT);
        assert!(text.contains(&format!("event {}\n", events - 1)), "{text}");
    }
}
