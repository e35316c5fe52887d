//! Bodies that never change: compressed once, when a client first asks for it.

use std::sync::OnceLock;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web::Bytes};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::{Coding, LEAST, encoder, mark, vary};

/// A body that never changes, and what it is compressed.
pub(in crate::http) struct Asset {
    plain: Bytes,
    zstd: OnceLock<Encoded>,
    gzip: OnceLock<Encoded>,
}

/// The body in one encoding, once it is there; `None` if it would not be smaller.
type Encoded = Shared<BoxFuture<'static, Option<Bytes>>>;

impl Asset {
    pub(in crate::http) fn new(plain: impl Into<Bytes>) -> Self {
        Self {
            plain: plain.into(),
            zstd: OnceLock::new(),
            gzip: OnceLock::new(),
        }
    }

    /// The body as it is.
    #[cfg(test)]
    pub(in crate::http) fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The response with this body, in the best encoding that the client takes.
    ///
    /// The first request for an encoding waits until it is made, on a thread for blocking work, and
    /// so does every caller meanwhile.
    pub(in crate::http) async fn respond(
        &self,
        request: &HttpRequest,
        mut response: HttpResponseBuilder,
    ) -> HttpResponse {
        let coding = Coding::of(request).filter(|_| self.plain.len() >= LEAST);
        if let Some(coding) = coding
            && let Some(encoded) = self.encoded(coding).await
        {
            let mut response = response.body(encoded);
            mark(response.headers_mut(), coding);
            vary(response.headers_mut());
            return response;
        }
        response.body(self.plain.clone())
    }

    fn encoded(&self, coding: Coding) -> Encoded {
        let encoded = match coding {
            Coding::Zstd => &self.zstd,
            Coding::Gzip => &self.gzip,
        };
        let begin = || {
            let plain = self.plain.clone();
            // Goes on without the client that asked first.
            let work = actix_rt::task::spawn_blocking(move || encoder::thoroughly(coding, &plain));
            async { work.await.ok().flatten() }.boxed().shared()
        };
        encoded.get_or_init(begin).clone()
    }
}
