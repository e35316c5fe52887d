//! All bytes move from one store to another, and back: also when the command is killed, and when some are missing or changed.

use std::{fs, slice, time::Duration};

use dotmac_testkit::{
    eventually,
    proxy::Proxy,
    seaweed::{Keys, Seaweed},
};
use image::RgbImage;
use reqwest::Method;

use crate::{
    direct::settings,
    house::{Answer, House, noise, sha256},
    renditions::made,
    s3::seen_by_boto3,
    sources::png,
    tus_client::{create, file_of, patch},
};

const BUCKET: &str = "files";
const PROVIDER: &str = "DOTMAC_FILES_PROVIDER";

/// What a house has, by the routes that read it.
type Contents = Vec<(String, Vec<u8>)>;

async fn assert_read(house: &House, contents: &Contents) {
    for (path, bytes) in contents {
        let read = house.get(path).await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
        assert_eq!(sha256(&read.bytes), sha256(bytes), "{path}");
    }
}

/// A small file, a large one, one with a former content, an image with a rendition: five blobs of different sizes.
async fn fill(house: &House) -> Contents {
    let content = |file: &Answer| format!("/files/{}/content", file.text("id"));
    let (small, large, newer) = (noise(8, 100), noise(9, 12_000_000), noise(10, 300));
    let one = house.file("name=one", small.clone()).await;
    let two = house.file("name=two", large.clone()).await;
    let replace = house
        .request(0, Method::PUT, &content(&one))
        .header("if-match", "\"1\"");
    let replaced = house.send(replace.body(newer.clone())).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let image = png(RgbImage::new(200, 100));
    let three = house.file("name=three.png", image.clone()).await;
    let rendition = format!("/files/{}/renditions/8x8.png", three.text("id"));
    let smaller = made(house, &rendition).await;
    assert_eq!(smaller.status, 200, "{smaller:?}");
    let former = format!("/files/{}/versions/1/content", one.text("id"));
    vec![
        (content(&one), newer),
        (former, small),
        (content(&two), large),
        (content(&three), image),
        (rendition, smaller.bytes),
    ]
}

/// Sizes and hashes of all bytes below the directory.
fn seen_in_directory(house: &House) -> Vec<(u64, String)> {
    let read = house.stored().into_iter().map(|path| {
        let bytes = fs::read(&path).unwrap();
        assert!(!path.to_string_lossy().contains('#'), "{path:?} is left");
        (bytes.len() as u64, sha256(&bytes))
    });
    let mut seen: Vec<_> = read.collect();
    seen.sort();
    seen
}

fn seen_in_bucket(store: &Seaweed, keys: &Keys) -> Vec<(u64, String)> {
    let found = seen_by_boto3(&store.endpoint(), keys, BUCKET);
    let mut seen: Vec<(u64, String)> = serde_json::from_value(found["blobs"].clone()).unwrap();
    seen.sort();
    seen
}

/// Copies everything from `from`: a first run, over a slow wire, is killed as soon as it is `under_way`; a second one does the rest,
/// and a third one nothing. How many blobs the second one found.
async fn migrate_killed(
    house: &House,
    wire: &Proxy,
    from: &str,
    under_way: impl Fn() -> bool,
) -> u64 {
    wire.delay(Duration::from_millis(20));
    let arguments = ["files", "migrate", "--from", from];
    let mut command = house.start(&arguments);
    eventually("the copy to be under way", || {
        let ended = command.try_exit();
        assert_eq!(ended, None, "it was too fast: {:?}", command.lines());
        let is_under_way = under_way();
        async move { is_under_way.then_some(()) }
    })
    .await;
    command.kill();
    wire.mend();
    let (code, output) = house.run(&arguments).await;
    assert_eq!(code, 0, "{output}");
    let number = |line: usize| -> u64 {
        let number = output.lines().nth(line).and_then(|it| it.split(' ').next());
        number.and_then(|it| it.parse().ok()).unwrap()
    };
    let (copied, present) = (number(0), number(1));
    assert!(copied > 0, "{output}");
    let (code, again) = house.run(&arguments).await;
    let all = copied + present;
    assert_eq!(code, 0, "{again}");
    let nothing = format!("0 blobs copied, 0 bytes\n{all} blobs were there\n");
    assert!(again.starts_with(&nothing), "{again}");
    present
}

/// Stops the daemon, and starts it with another provider.
async fn switch(house: &mut House, provider: &str) {
    house.instances.clear();
    house.set(PROVIDER, provider);
    house.add_instance().await;
}

#[tokio::test]
async fn all_bytes_move_to_a_bucket_and_back_although_the_command_is_killed() {
    let keys = Keys::of("moving");
    let store = Seaweed::start(slice::from_ref(&keys)).await;
    let wire = Proxy::before(store.port).await;
    let mut given = settings(&store, &keys, BUCKET);
    given[0].1 = format!("http://127.0.0.1:{}", wire.port);
    let given: Vec<_> = given
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let mut house = House::on_sqlite(1, &given).await;
    let mut contents = fill(&house).await;
    let bytes = noise(11, 2_000_000);
    let upload = create(&house, bytes.len(), "in-parts").await;
    let half = patch(&house, 0, &upload, 0, &bytes[..1_000_000]).await;
    assert_eq!(half.status, 204, "{half:?}");
    house.assert_clean(6).await;
    let before = seen_in_directory(&house);
    let arguments = ["files", "migrate", "--from", "local"];
    assert_eq!(house.run(&arguments).await.0, 78);

    house.set(PROVIDER, "s3");
    let under_way = || {
        store
            .list(BUCKET, "blobs")
            .iter()
            .any(|(_, size)| *size > 0)
    };
    let present = migrate_killed(&house, &wire, "local", under_way).await;
    assert!((1..6).contains(&present), "{present}");
    assert_eq!(seen_in_bucket(&store, &keys), before);
    switch(&mut house, "s3").await;
    fs::remove_dir_all(house.store()).unwrap();
    assert_read(&house, &contents).await;
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("6 blobs\n"), "{output}");

    // Back, with what was uploaded meanwhile.
    let new = noise(12, 9_000_000);
    let file = house.file("name=new", new.clone()).await;
    contents.push((format!("/files/{}/content", file.text("id")), new));
    let before = seen_in_bucket(&store, &keys);
    house.set(PROVIDER, "local");
    let under_way = || {
        let cut = house.stored().into_iter();
        let mut cut = cut.filter(|path| path.to_string_lossy().contains('#'));
        cut.any(|path| path.metadata().is_ok_and(|it| it.len() > 0))
    };
    migrate_killed(&house, &wire, "s3", under_way).await;
    assert_eq!(seen_in_directory(&house), before);
    switch(&mut house, "local").await;
    wire.cut();
    assert_read(&house, &contents).await;
    house.assert_clean(7).await;
    // The upload goes on where it was.
    let rest = patch(&house, 0, &upload, 1_000_000, &bytes[1_000_000..]).await;
    assert_eq!(rest.status, 204, "{rest:?}");
    let file = house.get(&file_of(&upload)).await;
    assert_eq!(file.text("sha256"), sha256(&bytes));
    house.assert_clean(7).await;
}

#[tokio::test]
async fn what_is_missing_or_changed_where_it_was_is_named_and_not_copied() {
    let keys = Keys::of("losing");
    let store = Seaweed::start(slice::from_ref(&keys)).await;
    let given = settings(&store, &keys, BUCKET);
    let given: Vec<_> = given
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let mut house = House::on_sqlite(1, &given).await;
    for (name, size) in [("small", 100), ("large", 6_000_000), ("empty", 0)] {
        house.file(&format!("name={name}"), noise(8, size)).await;
    }
    let kept: Vec<_> = house
        .stored()
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    for (bytes, path) in &kept {
        match bytes.len() {
            100 => fs::remove_file(path).unwrap(),
            0 => {}
            size => fs::write(path, vec![0; size]).unwrap(),
        }
    }
    house.set(PROVIDER, "s3");
    let (code, output) = house.run(&["files", "migrate", "--from", "local"]).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.starts_with(
            "1 blobs copied, 0 bytes\n0 blobs were there\n2 blobs that are missing or changed"
        ),
        "{output}"
    );
    for (bytes, path) in &kept {
        let name = path.file_name().unwrap().to_string_lossy();
        assert_eq!(output.contains(&*name), !bytes.is_empty(), "{output}");
        fs::write(path, bytes).unwrap();
    }
    let (code, output) = house.run(&["files", "migrate", "--from", "local"]).await;
    assert!(
        code == 0 && output.starts_with("2 blobs copied, 6000100 bytes\n1 blobs"),
        "{output}"
    );

    // The other way: one of the bucket is gone.
    let listed = store.list(BUCKET, "blobs");
    let (lost, _) = listed.iter().find(|(_, size)| *size == 100).unwrap();
    store.delete(lost);
    fs::remove_dir_all(house.store()).unwrap();
    house.set(PROVIDER, "local");
    let (code, output) = house.run(&["files", "migrate", "--from", "s3"]).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.starts_with("2 blobs copied, 6000000 bytes\n"),
        "{output}"
    );
    let name = lost.rsplit('/').next().unwrap();
    assert!(output.contains(name), "{output}");
}
