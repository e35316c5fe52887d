//! Sessions of browsers: a cookie, and requests of other sites.

use reqwest::Method;
use serde_json::json;

use crate::{ADMIN, House, PASSWORD};

/// The value of a cookie that an answer sets.
pub(crate) fn cookie(answer: &crate::Answer, name: &str) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines
        .filter_map(|line| line.split(';').next()?.split_once('='))
        .find_map(|(found, value)| (found == name).then(|| value.to_owned()))
}

/// Clients reach it by TLS, whatever the last hop is.
#[tokio::test]
async fn at_an_https_address_cookies_are_for_that_host_and_tls_alone() {
    let settings = [("DOTMAC_ACCOUNTS_PUBLIC_URL", "https://app.example")];
    let house = House::on_sqlite(1, &settings).await;
    house.administrator().await;
    let body = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
    let session = house.post("/auth/login", None, body).await;
    let asked = json!({ "email": ADMIN });
    let asked = house.post("/auth/password/forgot", None, asked).await;
    let mut names = Vec::new();
    for answer in [&session, &asked] {
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            for attribute in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/;"] {
                assert!(line.contains(attribute), "{line}");
            }
            assert!(!line.contains("Domain"), "{line}");
            names.push(line.split_once('=').unwrap().0.to_owned());
        }
    }
    names.sort();
    let expected = ["device", "flow", "session"].map(|name| format!("__Host-dotmac_{name}"));
    assert_eq!(names, expected);
    let value = cookie(&session, "__Host-dotmac_session").unwrap();
    for (name, status) in [("__Host-dotmac_session", 200), ("dotmac_session", 401)] {
        let header = format!("{name}={value}");
        let headers = [("cookie", header.as_str())];
        let me = house.send(0, Method::GET, "/auth/me", None, None, &headers);
        assert_eq!(me.await.status, status, "{name}");
    }
}

#[tokio::test]
async fn a_browser_is_signed_in_by_a_cookie_and_other_sites_use_it_for_nothing() {
    let house = House::on_sqlite(1, &[]).await;
    house.administrator().await;
    let body = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
    let session = house.post("/auth/login", None, body.clone()).await;
    assert_eq!(session.status, 200, "{session:?}");
    assert!(
        session.body.get("access_token").is_none() && session.body.get("refresh_token").is_none()
    );
    let value = cookie(&session, "dotmac_session").unwrap();
    assert!(cookie(&session, "dotmac_device").is_some());
    let lines = session.headers.get_all("set-cookie").iter();
    for line in lines.map(|line| line.to_str().unwrap()) {
        assert!(
            line.contains("HttpOnly") && line.contains("SameSite=Lax") && line.contains("Path=/"),
            "{line}"
        );
    }
    let cookie = format!("dotmac_session={value}");

    let me = house
        .send(
            0,
            Method::GET,
            "/auth/me",
            None,
            None,
            &[("cookie", &cookie)],
        )
        .await;
    assert_eq!(me.status, 200, "{me:?}");
    // As a bearer token it is worth nothing.
    assert_eq!(
        house.get("/auth/me", Some(&value)).await.short(),
        (401, "token_invalid")
    );

    let logout = |headers: Vec<(&'static str, &'static str)>| {
        let (house, cookie) = (&house, cookie.clone());
        async move {
            let mut headers = headers;
            headers.push(("cookie", Box::leak(cookie.into_boxed_str())));
            house
                .send(0, Method::POST, "/auth/logout", None, None, &headers)
                .await
        }
    };
    for foreign in [
        vec![],
        vec![("sec-fetch-site", "cross-site")],
        vec![
            ("sec-fetch-site", "same-site"),
            ("origin", "http://localhost:8000"),
        ],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
    ] {
        let answer = logout(foreign.clone()).await;
        // Of an origin that may not call at all the platform says so first.
        let is_refused = matches!(answer.short(), (403, "csrf" | "origin_not_allowed"));
        assert!(is_refused, "{foreign:?}: {answer:?}");
    }
    let answer = logout(vec![("sec-fetch-site", "same-origin")]).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(answer.headers.contains_key("clear-site-data"));
    let me = house
        .send(
            0,
            Method::GET,
            "/auth/me",
            None,
            None,
            &[("cookie", &cookie)],
        )
        .await;
    assert_eq!(me.short(), (401, "session_ended"));

    // Another site cannot sign a browser in either.
    let foreign = [("sec-fetch-site", "cross-site")];
    let login = house
        .send(0, Method::POST, "/auth/login", None, Some(body), &foreign)
        .await;
    assert_eq!(login.short(), (403, "csrf"));
}

#[tokio::test]
async fn a_device_that_is_known_is_not_locked_out_by_others() {
    let house = House::on_sqlite(1, &[]).await;
    house.administrator().await;
    let body =
        |password: &str| json!({ "identifier": ADMIN, "password": password, "mode": "cookie" });
    let session = house.post("/auth/login", None, body(PASSWORD)).await;
    let device = format!(
        "dotmac_device={}",
        cookie(&session, "dotmac_device").unwrap()
    );
    house.lock(ADMIN).await;
    let stranger = house.post("/auth/login", None, body(PASSWORD)).await;
    assert_eq!(stranger.short(), (429, "rate_limited"));
    let headers = [("cookie", device.as_str())];
    let owner = house
        .send(
            0,
            Method::POST,
            "/auth/login",
            None,
            Some(body(PASSWORD)),
            &headers,
        )
        .await;
    assert_eq!(owner.status, 200, "{owner:?}");
}
