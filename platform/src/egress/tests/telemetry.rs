//! The telemetry of a call: a client span, `traceparent` at the receiver, and no secret of the URL.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use dotmac_testkit::fakes::{FakeHttpServer, write_answer};
use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber,
    span,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

use super::*;
use crate::egress::header;

type Fields = HashMap<String, String>;

/// Remembers the fields of all spans and events.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<HashMap<u64, Fields>>>);

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Recorder {
    fn note(&self, id: u64, record: impl FnOnce(&mut Into<'_>)) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record(&mut Into(noted.entry(id).or_default()));
    }

    fn client_spans(&self) -> Vec<Fields> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = noted.values().filter(|it| it.get("otel.kind").is_some());
        spans.cloned().collect()
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Recorder {
    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        true
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        self.note(id.into_u64(), |fields| attributes.record(fields));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.note(id.into_u64(), |fields| values.record(fields));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.note(u64::MAX, |fields| event.record(fields));
    }
}

#[tokio::test]
async fn a_call_is_a_client_span_and_the_receiver_gets_its_context() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let server = FakeHttpServer::start(|request, stream| match request.path() {
        "/gone?token=sekret" => write_answer(stream, "410 Gone", &request.head),
        _ => write_answer(stream, "200 OK", &request.head),
    });
    let (recorder, provider) = (Recorder::default(), SdkTracerProvider::builder().build());
    let traced = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry()
        .with(traced)
        .with(recorder.clone());
    let egress = egress(development(), &everything_here());
    let calls = async {
        let url = format!("http://sink.example:{}/gone?token=sekret", server.port);
        let forged = "00-00000000000000000000000000000001-0000000000000001-01";
        let call = egress.get(&url);
        let call = call.header("traceparent".parse().unwrap(), forged.parse().unwrap());
        let call = call.header(header::AUTHORIZATION, "Bearer sekret".parse().unwrap());
        let answer = call.send().await.unwrap();
        let blocked = egress.get("http://10.0.0.1/sekret").send().await;
        (answer, blocked.unwrap_err())
    };
    let (answer, _) = calls.with_subscriber(subscriber).await;
    let head = String::from_utf8_lossy(&answer.body);
    let context = head.split("traceparent: ").nth(1).unwrap();
    assert!(
        context.starts_with("00-") && !context.contains("00000000000000000001"),
        "{head}"
    );

    let mut spans = recorder.client_spans();
    spans.sort_by_key(|span| span["server.address"].len());
    let expected = [
        ("10.0.0.1", "80", "blocked_address", None),
        ("sink.example", &server.port.to_string(), "410", Some("410")),
    ];
    assert_eq!(spans.len(), expected.len(), "{spans:?}");
    for (span, (address, port, error, status)) in spans.iter().zip(expected) {
        assert_eq!(span["otel.kind"], "client");
        assert_eq!(span["otel.name"], "GET");
        assert_eq!(span["server.address"], address);
        assert_eq!(span["server.port"], port);
        assert_eq!(span["error.type"], error);
        let noted = span.get("http.response.status_code");
        assert_eq!(noted.map(String::as_str), status);
    }
    let everything = format!("{:?}", recorder.0.lock().unwrap());
    assert!(!everything.contains("sekret"), "{everything}");
}
