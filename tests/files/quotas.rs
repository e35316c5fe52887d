//! Quotas are held before the first byte, so uploads that come at once cannot exceed them.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::house::{House, noise};

#[tokio::test]
async fn of_uploads_that_come_at_once_as_many_are_taken_as_fit() {
    let settings = [("DOTMAC_FILES_TENANT_QUOTA", "1000000B")];
    House::on_every(&settings, async |house| {
        let bytes = noise(1, 300_000);
        let (house, bytes) = (&house, &bytes);
        let all =
            (0..12).map(async |number| house.put(&format!("name={number}"), bytes.clone()).await);
        let answers = join_all(all).await;
        let taken = answers.iter().filter(|it| it.status == 201).count();
        assert_eq!(taken, 3, "{answers:?}");
        for refused in answers.iter().filter(|it| it.status != 201) {
            assert_eq!(refused.short(), (413, "quota_exceeded"), "{refused:?}");
            assert_eq!(refused.field(), "tenant");
        }
        house.until_usage((900_000, 0, 3)).await;
        house.assert_clean(3).await;

        // Of unknown size: what fits to the byte is taken, one more is not.
        let chunks = |sizes: &[usize]| {
            let pieces = sizes
                .iter()
                .map(|size| Ok::<_, std::io::Error>(noise(2, *size)));
            reqwest::Body::wrap_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
        };
        let refused = house.put("name=a", chunks(&[50_000, 50_000, 1])).await;
        assert_eq!(refused.short(), (413, "quota_exceeded"), "{refused:?}");
        house.until_usage((900_000, 0, 3)).await;
        let last = house.file("name=a", chunks(&[50_000, 49_999, 1])).await;
        assert_eq!(last.body["size"], 100_000);
        let path = format!("/files/{}/copy", last.text("id"));
        assert_eq!(
            house.post(&path, json!({})).await.short(),
            (413, "quota_exceeded")
        );
        assert_eq!(house.usage().await, (1_000_000, 0, 4));
    })
    .await;
}

#[tokio::test]
async fn each_user_has_a_quota_of_its_own() {
    let settings = [("DOTMAC_FILES_USER_QUOTA", "10B")];
    House::on_every(&settings, async |house| {
        let user = house.user("ann@example.com", &["files.files.*"]).await;
        house.file("name=a", "0123456789").await;
        let refused = house.put("name=b", "0").await;
        assert_eq!(refused.short(), (413, "quota_exceeded"));
        assert_eq!(refused.field(), "user");
        let put = house
            .request(0, Method::PUT, "/files/content?name=a")
            .body("01234");
        assert_eq!(put.bearer_auth(&user).send().await.unwrap().status(), 201);
        let usage = house
            .request(0, Method::GET, "/files/usage")
            .bearer_auth(&user);
        let usage: serde_json::Value = usage.send().await.unwrap().json().await.unwrap();
        assert_eq!(
            usage["user"],
            json!({ "used": 5, "reserved": 0, "quota": 10, "files": 1 })
        );
        assert_eq!(usage["tenant"]["used"], 15);
    })
    .await;
}
