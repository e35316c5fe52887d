//! Thumbnails of a photo: each by a confined process and a job of its own, against sharp in its own process.

use std::{fs, io::Cursor, process::Stdio, time::Instant};

use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};

use super::{Bed, ROUNDS, load::Body, load::Connection, load::in_parallel, peers::script};
use crate::report::{Report, median};

/// Requests at once, and of each in a round.
const AT_ONCE: usize = 8;
const EACH: usize = 3;
/// The smallest side of what is made. Each is a pixel larger than the one before, so that none is there before.
const SIDE: usize = 400;

/// 12 megapixels that are no flat surface.
fn photo() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(9);
    let image = RgbImage::from_fn(4000, 3000, |x, y| {
        let grain = random.u32(0..16);
        let wave = |of: u32| of as u8;
        Rgb([
            wave(x / 16 + grain),
            wave(y / 12 + grain),
            wave((x + y) / 28 + grain),
        ])
    });
    let mut bytes = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    image.write_with_encoder(encoder).unwrap();
    bytes.into_inner()
}

pub(super) fn measure(report: &mut Report, bed: &Bed) {
    let photo = photo();
    let file = bed.path().join("photo.jpg");
    fs::write(&file, &photo).unwrap();
    let content = bed.file(Body(&photo, 1));
    let renditions = content.replace("/content", "/renditions");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = SIDE + round * AT_ONCE * EACH;
        let began = Instant::now();
        in_parallel(bed.port(), (AT_ONCE, EACH), |connection, number| {
            until_made(connection, &renditions, first + number)
        });
        ours.push((AT_ONCE * EACH) as f64 / began.elapsed().as_secs_f64());
        let mut sharp = script("sharp.cjs");
        sharp.arg(&file).stderr(Stdio::inherit());
        sharp.args([first, AT_ONCE * EACH, AT_ONCE].map(|it| it.to_string()));
        let made = sharp.output().unwrap();
        assert!(made.status.success(), "sharp failed");
        let seconds = String::from_utf8(made.stdout).unwrap();
        theirs.push((AT_ONCE * EACH) as f64 / seconds.trim().parse::<f64>().unwrap());
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    report.row(
        "thumbnails of a JPEG of 12 megapixels, 8 asked for at once",
        "at least 0.3 of sharp, which decodes what it is given in its own process",
        format!("{:.2} of it ({ours:.1}/s)", ours / theirs),
        format!("sharp: {theirs:.1}/s"),
        ours >= 0.3 * theirs,
    );
}

/// Asks for a thumbnail until it is made.
fn until_made(connection: &mut Connection, renditions: &str, side: usize) -> u64 {
    loop {
        let head = format!("GET {renditions}/{side}x{side}.jpg HTTP/1.1\r\n");
        let answer = connection.exchange(&head, Body::NONE);
        match answer.status {
            200 => return answer.size,
            503 => {}
            status => panic!("a thumbnail was answered {status}"),
        }
    }
}
