//! The telemetry of a request: one span, one line, and neither for probes.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tracing::{
    Dispatch, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

use super::*;

type Fields = HashMap<String, String>;

/// Remembers the fields of each span and of each event.
#[derive(Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<HashMap<u64, Fields>>>,
    events: Arc<Mutex<Vec<(String, Fields)>>>,
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Into(&mut fields));
        self.spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.into_u64(), fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        values.record(&mut Into(spans.entry(id.into_u64()).or_default()));
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push((event.metadata().target().to_owned(), fields));
    }
}

impl Recorder {
    fn spans(&self) -> Vec<Fields> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans
            .values()
            .filter(|fields| fields.contains_key("otel.kind"))
            .cloned()
            .collect()
    }

    fn lines(&self, target: &str) -> Vec<Fields> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events
            .iter()
            .filter(|(of, _)| of == target)
            .map(|(_, fields)| fields.clone())
            .collect()
    }
}

/// Never current anywhere, but alive: else tracing may learn from a test on another thread, which has no subscriber,
/// that the span is disabled, while a test here records.
static INTEREST: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(tracing_subscriber::registry().with(Recorder::default())));

/// Asks while everything is recorded. One thread serves the request, so its own subscriber sees it all.
async fn recorded(request: TestRequest) -> Result<(Recorder, Answer), Failure> {
    LazyLock::force(&INTEREST);
    let recorder = Recorder::default();
    let subscriber = tracing_subscriber::registry().with(recorder.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let answer = ask(request).await?;
    Ok((recorder, answer))
}

#[actix_web::test]
async fn a_request_is_one_span_and_one_line_without_secrets() -> Outcome {
    let request = TestRequest::get()
        .uri("/try/number/7?token=sekret")
        .peer_addr("192.0.2.1:1".parse()?)
        .insert_header(("authorization", "Bearer sekret"));
    let (recorder, answer) = recorded(request).await?;
    let spans = recorder.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    for (name, value) in [
        ("otel.name", "GET /try/number/{n}"),
        ("otel.kind", "server"),
        ("http.request.method", "GET"),
        ("http.route", "/try/number/{n}"),
        ("http.response.status_code", "200"),
        ("url.path", "/try/number/7"),
        ("client.address", "192.0.2.1"),
        ("request_id", answer.header("x-request-id")),
    ] {
        assert_eq!(
            spans[0].get(name).map(String::as_str),
            Some(value),
            "{name} in {spans:?}"
        );
    }
    let lines = recorder.lines("dotmac::access");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        lines[0].get("message").map(String::as_str),
        Some("GET /try/number/{n} 200")
    );
    assert_eq!(
        lines[0].get("http.response.body.size").map(String::as_str),
        Some("1")
    );
    assert!(!format!("{spans:?}{lines:?}").contains("sekret"));
    Ok(())
}

#[actix_web::test]
async fn probes_and_scrapes_leave_nothing() -> Outcome {
    for path in ["/health", "/ready", "/startupz", "/metrics"] {
        let (recorder, _) = recorded(TestRequest::get().uri(path)).await?;
        assert!(
            recorder.spans().is_empty() && recorder.lines("dotmac::access").is_empty(),
            "{path}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_server_error_is_logged_with_its_cause() -> Outcome {
    let (recorder, _) = recorded(TestRequest::get().uri("/try/fails/internal")).await?;
    let lines = recorder.lines("dotmac::http");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .get("error")
            .is_some_and(|error| error.ends_with("disk of db7 is full")),
        "{lines:?}"
    );
    Ok(())
}

#[actix_web::test]
async fn an_invented_method_and_an_unknown_path_make_no_new_names() -> Outcome {
    let method = actix_web::http::Method::from_bytes(b"INVENTED")?;
    let (recorder, answer) = recorded(TestRequest::default().method(method).uri("/a/b/c")).await?;
    assert_eq!(answer.status(), 404);
    let spans = recorder.spans();
    assert_eq!(
        spans[0].get("otel.name").map(String::as_str),
        Some("_OTHER")
    );
    assert_eq!(spans[0].get("http.route"), None);
    Ok(())
}

#[actix_web::test]
async fn a_user_is_named_where_it_is_known() -> Outcome {
    for (path, user) in [("/try/known", Some("ada")), ("/try/number/7", None)] {
        let (recorder, _) = recorded(TestRequest::get().uri(path)).await?;
        let line = recorder.lines("dotmac::access").remove(0);
        assert_eq!(line.get("user.id").map(String::as_str), user, "{line:?}");
        let span = recorder.spans().remove(0);
        assert_eq!(span.get("user.id").map(String::as_str), user, "{span:?}");
    }
    Ok(())
}
