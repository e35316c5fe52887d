//! What this instance has claimed of each endpoint: attempts under way, and deliveries that wait for one to end.
//!
//! How many are claimed ahead depends on the endpoint: as many as its attempts do within [`WINDOW`], by what the last ones
//! took; none while it is slow or fails. Of all endpoints together no more than [`EACH_AHEAD`] for each attempt that may be under
//! way. What waits is given back as soon as an attempt fails, and once it is not as fresh as it should be.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::parcel::Parcel;
use crate::store::{claims::Claimed, endpoints::EndpointId};

/// What the attempts of an endpoint are expected to do within this time is claimed ahead.
const WINDOW: Duration = Duration::from_millis(50);
/// The most deliveries of an endpoint that are claimed ahead.
const MOST: u32 = 128;
/// How many deliveries of all endpoints may wait here for each attempt that may be under way.
const EACH_AHEAD: usize = 8;
/// The longest that a delivery waits here, from before it was claimed.
const LONGEST: Duration = Duration::from_secs(3);
/// How long an endpoint is remembered of which there is nothing.
const IDLE: Duration = Duration::from_secs(60);

/// The endpoints of which this instance has deliveries.
#[derive(Default)]
pub(super) struct LocalLanes(HashMap<EndpointId, LocalLane>);

#[derive(Default)]
struct LocalLane {
    waiting: VecDeque<(Parcel, Instant)>,
    /// Attempts that are under way here, and the most that may be.
    busy: u32,
    width: u32,
    /// What attempts take; `None` while none has gone well, or since one did not.
    mean: Option<Duration>,
    /// When a delivery of it last came or ended.
    used: Option<Instant>,
}

/// What is done with a delivery that waited.
pub(super) enum Next {
    /// It is sent.
    Send(Parcel),
    /// It waited too long.
    Return(Claimed),
}

impl LocalLanes {
    /// Adds a delivery whose claim began then, and of whose endpoint `width` may be under way at once.
    pub(super) fn add(&mut self, parcel: Parcel, width: u32, began: Instant) {
        let lane = self.0.entry(parcel.claimed.endpoint_id).or_default();
        lane.width = width.max(1);
        lane.used = Some(Instant::now());
        lane.waiting.push_back((parcel, began));
    }

    /// The next delivery of an endpoint, if its lane has a place.
    pub(super) fn next(&mut self, endpoint: EndpointId) -> Option<Next> {
        let lane = self.0.get_mut(&endpoint)?;
        if lane.busy >= lane.width {
            return None;
        }
        let (parcel, since) = lane.waiting.pop_front()?;
        if since.elapsed() > LONGEST {
            return Some(Next::Return(parcel.claimed));
        }
        lane.busy += 1;
        Some(Next::Send(parcel))
    }

    /// An attempt has ended; `took` if it went well. What waits goes back otherwise.
    pub(super) fn ended(&mut self, endpoint: EndpointId, took: Option<Duration>) -> Vec<Claimed> {
        let Some(lane) = self.0.get_mut(&endpoint) else {
            return Vec::new();
        };
        lane.busy = lane.busy.saturating_sub(1);
        lane.used = Some(Instant::now());
        match (took, lane.mean) {
            (Some(took), Some(mean)) => lane.mean = Some(mean - mean / 8 + took / 8),
            (took, _) => lane.mean = took,
        }
        match took {
            Some(_) => Vec::new(),
            None => claimed(lane.waiting.drain(..)),
        }
    }

    /// Takes out all that waits.
    pub(super) fn take_waiting(&mut self) -> Vec<Claimed> {
        let lanes = self.0.values_mut();
        claimed(lanes.flat_map(|lane| lane.waiting.drain(..)))
    }

    /// How many attempts there are places for that are in use, or will be.
    pub(super) fn places(&self) -> usize {
        let lanes = self.0.values();
        let places = lanes.map(|lane| {
            let waiting = u32::try_from(lane.waiting.len()).unwrap_or(u32::MAX);
            lane.busy.saturating_add(waiting).min(lane.width) as usize
        });
        places.sum()
    }

    /// Endpoints of which something waits.
    pub(super) fn waiting(&self) -> Vec<EndpointId> {
        let lanes = self.0.iter();
        let waiting = lanes.filter(|(_, lane)| !lane.waiting.is_empty());
        waiting.map(|(endpoint, _)| *endpoint).collect()
    }

    /// How many deliveries of which endpoints are claimed beyond what may be under way at once.
    pub(super) fn ahead(&self) -> HashMap<EndpointId, u32> {
        let lanes = self.0.iter();
        let depths = lanes.filter_map(|(endpoint, lane)| Some((*endpoint, lane.depth()?)));
        depths.collect()
    }

    /// How many more deliveries may be claimed ahead, of all endpoints together, where so many attempts may be under way.
    pub(super) fn ahead_in_all(&self, concurrency: usize) -> u32 {
        let waiting: usize = self.0.values().map(|lane| lane.waiting.len()).sum();
        let more = (EACH_AHEAD * concurrency).saturating_sub(waiting);
        u32::try_from(more).unwrap_or(u32::MAX)
    }

    /// Forgets endpoints of which there has been nothing for a while.
    pub(super) fn forget_idle(&mut self) {
        self.0.retain(|_, lane| {
            let is_used = lane.used.is_some_and(|used| used.elapsed() < IDLE);
            is_used || lane.busy > 0 || !lane.waiting.is_empty()
        });
    }
}

impl LocalLane {
    fn depth(&self) -> Option<u32> {
        let mean = self.mean?.as_nanos().max(1);
        let each = u32::try_from(WINDOW.as_nanos() / mean).unwrap_or(MOST);
        Some(each.saturating_mul(self.width).min(MOST)).filter(|depth| *depth > 0)
    }
}

fn claimed(waiting: impl Iterator<Item = (Parcel, Instant)>) -> Vec<Claimed> {
    waiting.map(|(parcel, _)| parcel.claimed).collect()
}
