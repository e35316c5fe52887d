//! The actor's answers, within the time limit of its callers.

use std::{sync::Arc, time::Instant};

use actix::prelude::*;
use secrecy::SecretString;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::{Refreshed, SecretsActor};
use crate::{GetSecret, PutSecret, RefreshNow, SecretReference, SecretsError, Want};

/// Of the time that a caller waits, this much is taken for an answer; the rest is for its way.
const ANSWER_SHARE: f64 = 0.8;

/// Requests for [`GetSecret`] and [`PutSecret`] under way at once, waiting ones included.
const READS_LIMIT: usize = 128;

impl SecretsActor {
    /// Reads everything again; `answer_next` is served by the first reading that begins now.
    fn refresh(&mut self, ctx: &mut Context<Self>) -> ResponseActFuture<Self, Refreshed> {
        if self.vault.is_none() {
            return answer(Ok(self.serve_literals()));
        }
        let (asker, answered) = oneshot::channel();
        self.cache.clear();
        self.answer_next.retain(|asker| !asker.is_closed());
        self.answer_next.push(asker);
        self.load(ctx);
        self.in_time(answered)
    }

    /// The result of `answered` within the caller's time limit; after that it goes on without the caller. A
    /// Vault that hangs must not make this actor look as if it did.
    fn in_time<T: 'static>(
        &self,
        answered: oneshot::Receiver<Result<T, SecretsError>>,
    ) -> ResponseActFuture<Self, Result<T, SecretsError>> {
        let after = self.lifeline.call_timeout().mul_f64(ANSWER_SHARE);
        let in_time = async move {
            match tokio::time::timeout(after, answered).await {
                Ok(Ok(answer)) => answer,
                // The other end lives as long as this actor, and so does this future.
                Ok(Err(_)) | Err(_) => Err(SecretsError::UnderWay { after }),
            }
        };
        Box::pin(in_time.into_actor(self))
    }
}

impl Handler<RefreshNow> for SecretsActor {
    type Result = ResponseActFuture<Self, Refreshed>;

    fn handle(&mut self, _: RefreshNow, ctx: &mut Self::Context) -> Self::Result {
        self.refresh(ctx)
    }
}

impl Handler<Want> for SecretsActor {
    type Result = ResponseActFuture<Self, Refreshed>;

    fn handle(&mut self, Want { wanted }: Want, ctx: &mut Self::Context) -> Self::Result {
        self.wanted = Arc::new(wanted);
        self.feed.want(Arc::clone(&self.wanted));
        self.refresh(ctx)
    }
}

impl Handler<GetSecret> for SecretsActor {
    type Result = ResponseActFuture<Self, Result<SecretString, SecretsError>>;

    fn handle(
        &mut self,
        GetSecret { reference }: GetSecret,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let asked_at = Instant::now();
        let Some(vault) = self.vault.clone() else {
            return answer(Err(SecretsError::VaultOff { reference }));
        };
        if let Some(document) = self.cache.get(&reference.path, asked_at) {
            return answer(document.field(&reference).cloned());
        }
        if self.reads >= READS_LIMIT {
            return answer(Err(SecretsError::Busy { reference }));
        }
        self.reads += 1;
        let SecretReference { path, .. } = reference.clone();
        let read = async move { vault.read(&path).await }.instrument(Span::current());
        let (asker, answered) = oneshot::channel();
        let read = Box::pin(read).into_actor(self);
        ctx.spawn(read.map(move |document, actor, _| {
            actor.reads -= 1;
            let field = document.and_then(|document| {
                let document = Arc::new(document);
                let path = reference.path.clone();
                actor.cache.insert(path, Arc::clone(&document), asked_at);
                document.field(&reference).cloned()
            });
            // A caller that has stopped waiting finds it in the cache.
            drop(asker.send(field));
        }));
        self.in_time(answered)
    }
}

impl Handler<PutSecret> for SecretsActor {
    type Result = ResponseActFuture<Self, Result<Option<u64>, SecretsError>>;

    fn handle(&mut self, put: PutSecret, ctx: &mut Self::Context) -> Self::Result {
        let reference = SecretReference {
            path: put.path.clone(),
            field: None,
        };
        let Some(vault) = self.vault.clone() else {
            return answer(Err(SecretsError::VaultOff { reference }));
        };
        if self.reads >= READS_LIMIT {
            return answer(Err(SecretsError::Busy { reference }));
        }
        self.reads += 1;
        let PutSecret {
            path,
            fields,
            expected,
        } = put;
        let written = path.clone();
        let write = async move { vault.write(&path, &fields, expected).await };
        let write = write.instrument(Span::current());
        let (asker, answered) = oneshot::channel();
        ctx.spawn(
            Box::pin(write)
                .into_actor(self)
                .map(move |version, actor, _| {
                    actor.reads -= 1;
                    // Regardless of the result, a value read before may be another version.
                    actor.cache.forget(&written);
                    // A caller that has stopped waiting reads it again.
                    drop(asker.send(version));
                }),
        );
        self.in_time(answered)
    }
}

fn answer<T: 'static>(value: T) -> ResponseActFuture<SecretsActor, T> {
    Box::pin(actix::fut::ready(value))
}
