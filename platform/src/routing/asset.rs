//! A page or a script of a module, which is part of the program and always the same.

use std::marker::PhantomData;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
};

use super::{FileKind, Operation, Reply};

/// A file that is part of the program.
pub trait AssetFile: FileKind {
    /// What is in it.
    const BODY: &'static str;
    /// What a page may load and call, for `Content-Security-Policy`; nothing unless it is said.
    const POLICY: &'static str =
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

/// 200: the file `F`, to be shown or run by browsers.
#[derive(Clone, Copy, Debug)]
pub struct Asset<F>(PhantomData<F>);

impl<F> Asset<F> {
    /// The file.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<F> Default for Asset<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: AssetFile> Reply for Asset<F> {
    fn describe(operation: &mut Operation) {
        operation.file_answer(StatusCode::OK, F::CONTENT_TYPE, F::DESCRIPTION);
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(F::CONTENT_TYPE)
            .insert_header((header::CONTENT_SECURITY_POLICY, F::POLICY))
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .body(F::BODY)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use actix_web::{body::to_bytes, test::TestRequest};

    use super::*;

    struct Page;

    impl FileKind for Page {
        const CONTENT_TYPE: &'static str = "text/html; charset=utf-8";
        const DESCRIPTION: &'static str = "A page.";
    }

    impl AssetFile for Page {
        const BODY: &'static str = "<!DOCTYPE html><title>A</title>";
    }

    #[actix_web::test]
    async fn a_page_loads_nothing_unless_its_policy_allows_it() {
        let response = Asset::<Page>::new().respond(&TestRequest::default().to_http_request());
        let policy = response.headers().get("content-security-policy");
        let policy = policy.and_then(|it| it.to_str().ok()).unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let body = to_bytes(response.into_body()).await.expect("a body");
        assert_eq!(body, Page::BODY);
    }
}
