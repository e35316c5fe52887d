//! What services share that hand something on to others: webhooks, mail, push. Receivers are slow, down, or permanently
//! gone, and a sender must neither give up too early nor delay the others.
//!
//! Rules over values that the service keeps in its own rows; none of them waits, sends or queries:
//!
//! - [`Ladder`]: how long to wait after which attempt, with jitter, and never less than the receiver asked for
//!   ([`retry_after`]);
//! - [`Attempt`]: what is kept of one attempt, bounded, regardless of the receiver's answer;
//! - [`Lane`]: how much may be under way to one destination, and when nothing may: fewer at once while it is slow, none
//!   while it fails, then one to probe it, and the end when it has failed for days.
//!
//! With it comes what a worker needs that claims its own rows: the time by which instances agree ([`database_now`]), a
//! signal that there is something to claim ([`signal`], [`wake`]), and the trace of the cause ([`continue_trace`]).
//!
//! ```
//! use std::time::Duration;
//! use dotmac_db::types::Moment;
//! use dotmac_durable::delivery::{Ladder, Lane, LaneRules, Standing, retry_after};
//!
//! let (mut lane, rules, now) = (Lane::default(), LaneRules::DEFAULT, Moment::now());
//! assert_eq!(lane.room(&rules, 3, now), 2); // 5 at once, 3 are under way
//! let asked = retry_after("120", now); // the receiver answered 503
//! assert_eq!(lane.failed(&rules, Duration::from_millis(40), asked, now), Standing::Held);
//! assert_eq!(lane.room(&rules, 0, now), 0); // it is left alone for as long as it asked
//! let wait = Ladder::WEBHOOKS.wait(1, asked).unwrap_or_default();
//! assert!(wait >= Duration::from_secs(120)); // the ladder alone would say 5 s
//! ```

mod attempt;
mod ladder;
mod lane;

pub use crate::{
    clock::now as database_now,
    trace::follow as continue_trace,
    wake::{signal, wake},
};
pub use attempt::{Attempt, MAX_ATTEMPT_BODY, MAX_ATTEMPT_HEADERS};
pub use ladder::{Ladder, retry_after};
pub use lane::{Lane, LaneColumns, LaneRules, Standing};
