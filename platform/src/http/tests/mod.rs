//! The whole application as clients see it: in process where that is enough, by real sockets where
//! the bytes matter.

mod authorizing;
mod connections;
mod contracts;
mod docs;
mod errors;
mod modules;
mod policies;
mod probes;
mod sample;
mod telemetry;
mod tls;
mod wire;

use std::time::Duration;

use actix_web::{
    body::BoxBody,
    dev::{Service, ServiceResponse},
    test::{TestRequest, init_service},
    web::{Bytes, Data},
};
use dotmac_supervision::Readiness;
use serde_json::Value;

use super::{
    Config, Parts,
    server::Shared,
    testing::{Failure, Staged, config, impatient, parts},
};

type Outcome = Result<(), Failure>;

fn mounted(vitals: &Staged) -> Parts {
    let mut parts = parts(vitals);
    parts.routes.serve_modules(sample::Sample);
    parts.routes.provide(Data::new("shared".to_owned()));
    parts
}

/// The complete answer.
struct Answer {
    response: ServiceResponse<()>,
    body: Bytes,
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn header(&self, name: &str) -> &str {
        self.response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("not UTF-8")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Checks the form of a problem and returns its code.
    fn code(&self) -> String {
        let body = self.json();
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{body}"
        );
        assert_eq!(body["type"], "about:blank", "{body}");
        assert_eq!(body["status"], self.status(), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"), "{body}");
        assert!(body["title"].is_string(), "{body}");
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask_of(config: Config, parts: Parts, request: TestRequest) -> Result<Answer, Failure> {
    let app = init_service(Shared::new(config, parts).app()).await;
    let response: ServiceResponse<BoxBody> = app
        .call(request.to_request())
        .await
        .map_err(|error| error.to_string())?;
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let body = actix_web::body::to_bytes(body)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Answer {
        response: ServiceResponse::new(request, response),
        body,
    })
}

async fn ask(request: TestRequest) -> Result<Answer, Failure> {
    ask_of(config(), mounted(&Staged::new(Readiness::Ready)), request).await
}

async fn get_path(path: &str) -> Result<Answer, Failure> {
    ask(TestRequest::get().uri(path)).await
}
