//! The actor that measurements break on request.

use std::time::Duration;

use actix::prelude::*;
use dotmac_platform::supervision::{Lifeline, Serving, SupervisedActor};

pub struct Subject(pub Lifeline);

impl Actor for Subject {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.ready(Serving::default());
    }
}

impl SupervisedActor for Subject {}

/// The request; the answer is the number of the life.
#[derive(Message)]
#[rtype(result = "u64")]
pub enum Ask {
    Ping,
    Panic,
    Stop,
    Hang(Duration),
}

impl Handler<Ask> for Subject {
    type Result = u64;

    fn handle(&mut self, ask: Ask, context: &mut Self::Context) -> u64 {
        match ask {
            Ask::Ping => {}
            Ask::Panic => panic!("asked to"),
            Ask::Stop => context.stop(),
            Ask::Hang(time) => std::thread::sleep(time),
        }
        self.0.generation()
    }
}
