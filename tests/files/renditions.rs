//! Images in other sizes, texts of PDF and what files say of themselves: made, kept, collected, made anew.

use dotmac_testkit::eventually;
use image::RgbImage;
use reqwest::Method;
use serde_json::json;

use crate::{
    house::{Answer, House},
    sources::{pdf, photo, png},
};

pub(crate) async fn rendition(house: &House, id: &str, name: &str) -> Answer {
    house.get(&format!("/files/{id}/renditions/{name}")).await
}

/// Asks until it is made, as a client would.
pub(crate) async fn made(house: &House, path: &str) -> Answer {
    eventually(&format!("{path} to be made"), || async {
        let answer = house.get(path).await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

fn decoded(bytes: &[u8]) -> RgbImage {
    image::load_from_memory(bytes).unwrap().into_rgb8()
}

#[tokio::test]
async fn an_image_is_made_smaller_turned_and_stripped_and_kept() {
    House::on_every(&[], async |house| {
        let photo = photo(800, 400);
        let upload = house.file("name=photo.jpg", photo).await;
        let id = upload.text("id");
        for (name, media_type) in [
            ("100x100.jpg", "image/jpeg"),
            ("100x100.png", "image/png"),
            ("100x100.webp", "image/webp"),
        ] {
            let path = format!("/files/{id}/renditions/{name}");
            let answer = made(&house, &path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            let shown = answer.header("content-disposition");
            assert!(
                shown.starts_with("inline") && shown.contains(&format!("photo-{name}")),
                "{shown}"
            );
            let image = decoded(&answer.bytes);
            assert_eq!(image.dimensions(), (50, 100), "{name}");
            let (above, below) = (image.get_pixel(25, 10).0, image.get_pixel(25, 90).0);
            assert!(above[0] > 200 && below[2] > 200, "{above:?} {below:?}");
            let has = |mark: &[u8]| answer.bytes.windows(mark.len()).any(|it| it == mark);
            assert!(!has(b"secret") && !has(b"Exif") && !has(b"EXIF"), "{name}");

            let tag = answer.header("etag").to_owned();
            let request = |method| house.request(0, method, &path);
            let known = house
                .send(request(Method::GET).header("if-none-match", &tag))
                .await;
            assert_eq!(known.status, 304);
            let part = house
                .send(request(Method::GET).header("range", "bytes=0-3"))
                .await;
            assert_eq!((part.status, &*part.bytes), (206, &answer.bytes[..4]));
            let head = house.send(request(Method::HEAD)).await;
            let size = head.header("content-length").parse::<usize>();
            assert_eq!((head.status, size), (200, Ok(answer.bytes.len())));
        }
        // As large as it is, and no larger.
        let whole = made(&house, &format!("/files/{id}/renditions/4096x4096.png")).await;
        assert_eq!(decoded(&whole.bytes).dimensions(), (400, 800));

        // A copy has the same bytes, so nothing is created again.
        let copy = house.post(&format!("/files/{id}/copy"), json!({})).await;
        let of_copy = rendition(&house, copy.text("id"), "100x100.webp").await;
        assert_eq!(of_copy.status, 200);
        let series = "dotmac_files_decodes_total{outcome=\"ok\"}";
        assert_eq!(house.instances[0].metric(series).await, Some(4.0));
        house.assert_clean(5).await;
        // The quota is for what was uploaded.
        assert_eq!(house.usage().await.2, 2);
    })
    .await;
}

#[tokio::test]
async fn a_pdf_has_a_text_and_says_what_it_is() {
    House::on_every(&[], async |house| {
        let bytes = pdf(&["Hello from page one", "Second page"]);
        let upload = house.file("name=report.pdf", bytes).await;
        let id = upload.text("id");
        let text = made(&house, &format!("/files/{id}/text")).await;
        assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
        let shown = String::from_utf8(text.bytes.clone()).unwrap();
        assert_eq!(shown, "Hello from page one\u{c}Second page\u{c}");
        let info = made(&house, &format!("/files/{id}/info")).await;
        assert_eq!(info.status, 200, "{info:?}");
        for (field, value) in [
            ("kind", json!("pdf")),
            ("pages", json!(2)),
            ("pdf_version", json!("1.7")),
            ("title", json!("Annual report")),
            ("author", json!("Ann")),
            ("producer", json!("a test")),
            ("created", json!("D:20260102030405Z")),
            ("width", json!(null)),
        ] {
            assert_eq!(info.body[field], value, "{field}");
        }
        let image = rendition(&house, id, "10x10.png").await;
        assert_eq!(image.short(), (422, "type_not_supported"), "{image:?}");

        let photo = house.file("name=photo.jpg", photo(80, 40)).await;
        let info = made(&house, &format!("/files/{}/info", photo.text("id"))).await;
        let size = (
            &info.body["width"],
            &info.body["height"],
            &info.body["orientation"],
        );
        assert_eq!(size, (&json!(40), &json!(80), &json!(6)));
        let text = house
            .get(&format!("/files/{}/text", photo.text("id")))
            .await;
        assert_eq!(text.short(), (422, "type_not_supported"));
    })
    .await;
}

#[tokio::test]
async fn names_limits_and_tenants_are_kept() {
    House::on_every(&[("DOTMAC_FILES_MAX_RENDITIONS", "2")], async |house| {
        let upload = house.file("name=a.png", png(RgbImage::new(20, 10))).await;
        let id = upload.text("id");
        for name in [
            "0x1.png",
            "1x5000.png",
            "10x10.gif",
            "10x10",
            "x.png",
            "01x1.png",
        ] {
            let refused = rendition(&house, id, name).await;
            assert_eq!(
                (refused.short(), refused.field()),
                ((422, "validation"), "rendition"),
                "{name}"
            );
        }
        for name in ["1x1.png", "2x2.png"] {
            let path = format!("/files/{id}/renditions/{name}");
            assert_eq!(made(&house, &path).await.status, 200);
        }
        let refused = rendition(&house, id, "3x3.png").await;
        assert_eq!(refused.short(), (422, "too_many_renditions"), "{refused:?}");
        // Metadata is not a rendition.
        assert_eq!(made(&house, &format!("/files/{id}/info")).await.status, 200);
        let token = house.other_tenant().await;
        let path = format!("/files/{id}/renditions/1x1.png");
        let other = house.request(0, Method::GET, &path).bearer_auth(token);
        let other = Answer::of(other.send().await.unwrap()).await;
        assert_eq!(other.short(), (404, "file_not_found"));
        let nobody = Answer::of(house.request(0, Method::GET, &path).send().await.unwrap()).await;
        assert_eq!(nobody.status, 401);
    })
    .await;
}

#[tokio::test]
async fn what_was_made_goes_with_its_file_and_comes_back_when_it_is_lost() {
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
    ];
    House::on_every(&settings, async |house| {
        let upload = house.file("name=a.png", png(RgbImage::new(200, 100))).await;
        let id = upload.text("id");
        let path = format!("/files/{id}/renditions/10x10.png");
        let first = made(&house, &path).await;
        assert_eq!(house.stored().len(), 2);
        // Its bytes are gone: it is created again.
        house.lose_smallest();
        let again = made(&house, &path).await;
        assert_eq!((again.status, &again.bytes), (200, &first.bytes));
        eventually("the row of what was lost to go", || async {
            let (code, output) = house.run(&["files", "check"]).await;
            (code == 0 && output.starts_with("2 blobs")).then_some(())
        })
        .await;
        // It is old: it is deleted, and created again at the next request.
        house
            .sql("UPDATE file_rendition SET created_at = '2026-01-01 00:00:00.000000'")
            .await;
        eventually("what is old to go", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        assert_eq!(made(&house, &path).await.bytes, first.bytes);
        let deleted = house.delete(&format!("/files/{id}"), "\"1\"").await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        eventually("file and rendition to go", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        house.assert_clean(0).await;
    })
    .await;
}

#[tokio::test]
async fn what_one_instance_makes_another_reads() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        let upload = house.file("name=a.png", png(RgbImage::new(200, 100))).await;
        let path = format!("/files/{}/renditions/10x10.png", upload.text("id"));
        let first = made(&house, &path).await;
        let request = house.request(1, Method::GET, &path);
        let second = house.send(request).await;
        assert_eq!((second.status, &second.bytes), (200, &first.bytes));
    }
}
