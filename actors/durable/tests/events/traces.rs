//! What follows from an event is in the trace of its cause.

use dotmac_db::{DbError, TenantTx};
use dotmac_durable::{
    events::{Received, Subscriber},
    jobs::{self, Enqueue as _, Job, JobFilter},
};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, info_span};
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
    type Output = ();
}

#[actix::test]
async fn a_job_that_an_event_leads_to_is_in_the_trace_of_the_request() {
    let tracer = SdkTracerProvider::default().tracer("test");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    tracing_subscriber::registry().with(layer).try_init().ok();
    on_both(async |target| {
        let follow = async |tx: &mut TenantTx, _: Received<Counted>| {
            tx.enqueue(&Follow).await?;
            Ok::<_, DbError>(())
        };
        let rig = Rig::start(&target, |db| {
            vec![Subscriber::new("follow", follow).worker(db)]
        })
        .await;
        let request = info_span!("request");
        let trace = request
            .context()
            .span()
            .span_context()
            .trace_id()
            .to_string();
        rig.emit(1..2).instrument(request).await;
        let job = eventually("the job", || async {
            let list =
                async |tx: &mut TenantTx| jobs::list(tx, &JobFilter::default(), None, 10).await;
            let found = rig.db.tenant(&scope()).read("list", list).await.unwrap();
            found.into_iter().next()
        })
        .await;
        assert_eq!(job.trace_id, Some(trace));
        rig.supervisor.halt().await;
    })
    .await;
}
