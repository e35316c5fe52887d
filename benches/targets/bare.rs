//! The baseline of all HTTP figures: actix-web with one handler and nothing around it.

use actix_web::{App, HttpResponse, HttpServer, web};

/// Variables that turn this program into the server.
pub const PORT: &str = "BARE_SERVER_PORT";
pub const BODY: &str = "BARE_SERVER_BODY";

pub fn asked_for() -> Option<u16> {
    std::env::var(PORT).ok()?.parse().ok()
}

pub fn serve(port: u16) {
    let body = web::Bytes::from(std::env::var(BODY).unwrap_or_default());
    let server = HttpServer::new(move || {
        let body = body.clone();
        let answer = move || {
            let body = body.clone();
            async move {
                HttpResponse::Ok()
                    .content_type("application/json")
                    .body(body)
            }
        };
        App::new().default_service(web::to(answer))
    });
    let server = server.workers(2).bind(("127.0.0.1", port)).unwrap().run();
    actix_web::rt::System::new().block_on(server).unwrap();
}
