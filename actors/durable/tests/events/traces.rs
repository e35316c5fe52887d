//! What follows from an event is in the trace of its cause.

use dotmac_db::{DbError, TenantTx};
use dotmac_durable::{
    events::{Received, Subscriber},
    jobs::{self, Enqueue as _, Job, JobError, JobFilter, JobHandler, JobState, Run, Runner},
};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::prelude::*;

use crate::{
    rig::{Counted, Rig, on_both, scope},
    support::eventually,
};

#[derive(Serialize, Deserialize)]
struct Follow;

impl Job for Follow {
    const KIND: &'static str = "test.follow";
    /// The trace in which it runs.
    type Output = String;
}

/// The trace of `span`.
fn trace_of(span: &Span) -> String {
    let context = span.context();
    context.span().span_context().trace_id().to_string()
}

/// What the job calls is in it as well: a call takes the trace of the current span along.
#[actix::test]
async fn a_job_that_an_event_leads_to_runs_in_the_trace_of_the_request() {
    let tracer = SdkTracerProvider::default().tracer("test");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    tracing_subscriber::registry().with(layer).try_init().ok();
    on_both(async |target| {
        let follow = async |tx: &mut TenantTx, _: Received<Counted>| {
            tx.enqueue(&Follow).await?;
            Ok::<_, DbError>(())
        };
        let rig = Rig::start(&target, |db| {
            let note = async |_: Run<Follow>| Ok::<_, JobError>(trace_of(&Span::current()));
            let runner = Runner::new([JobHandler::new(note)]).unwrap();
            vec![
                Subscriber::new("follow", follow).worker(db),
                runner.worker("jobs", db),
            ]
        })
        .await;
        let request = info_span!("request");
        let trace = trace_of(&request);
        rig.emit(1..2).instrument(request).await;
        let job = eventually("the job", || async {
            let list =
                async |tx: &mut TenantTx| jobs::list(tx, &JobFilter::default(), None, 10).await;
            let found = rig.db.tenant(&scope()).read("list", list).await.unwrap();
            found
                .into_iter()
                .find(|job| job.state == JobState::Completed)
        })
        .await;
        assert_eq!(job.trace_id.as_ref(), Some(&trace));
        assert_eq!(job.result, Some(trace.into()));
        rig.supervisor.halt().await;
    })
    .await;
}
