//! Images: scaled down, rotated by EXIF, encoded again with only their pixels.

use std::io::Cursor;

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
    error::LimitErrorKind,
    metadata::Orientation,
};

use super::{Fault, Format, Info, Limits, Refusal};

/// The most pixels of one side.
const LONGEST_SIDE: u32 = 16_384;

/// Of 100.
const JPEG_QUALITY: u8 = 82;

/// The format of a kind that can be decoded.
pub(super) fn format_of(media_type: &str) -> Option<ImageFormat> {
    Some(match media_type {
        "image/gif" => ImageFormat::Gif,
        "image/jpeg" => ImageFormat::Jpeg,
        "image/png" => ImageFormat::Png,
        "image/webp" => ImageFormat::WebP,
        _ => return None,
    })
}

/// The image as large as fits into `width` and `height`, and not larger than it is. Of an animation it is the first image.
pub(super) fn resize(
    source: &[u8],
    media_type: &str,
    within: (u32, u32),
    format: Format,
    limits: Limits,
) -> Result<Vec<u8>, Refusal> {
    let (orientation, image) = {
        let mut decoder = open(source, media_type, limits)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let image = DynamicImage::from_decoder(decoder).map_err(refusal)?;
        (orientation, image)
    };
    let within = match turns(orientation) {
        true => (within.1, within.0),
        false => within,
    };
    let size = (image.width(), image.height());
    let mut image = scale(image, fit(size, within))?;
    // After it is small: turning takes as much memory again.
    image.apply_orientation(orientation);
    write(image, format)
}

/// Its size and how it is turned.
pub(super) fn info(source: &[u8], media_type: &str, limits: Limits) -> Result<Info, Refusal> {
    let mut decoder = open(source, media_type, limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (mut width, mut height) = decoder.dimensions();
    if turns(orientation) {
        (width, height) = (height, width);
    }
    Ok(Info {
        kind: "image".to_owned(),
        width: Some(width),
        height: Some(height),
        has_alpha: Some(decoder.color_type().has_alpha()),
        orientation: Some(orientation.to_exif()),
        ..Info::default()
    })
}

/// Reads the head of an image, which says how large it is: nothing is decoded of one that is too large.
fn open<'s>(
    source: &'s [u8],
    media_type: &str,
    limits: Limits,
) -> Result<impl ImageDecoder + 's, Refusal> {
    let unknown = || Refusal::new(Fault::NotDecodable, "it is no image that can be decoded");
    let format = format_of(media_type).ok_or_else(unknown)?;
    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    let mut most = image::Limits::default();
    most.max_image_width = Some(LONGEST_SIDE);
    most.max_image_height = Some(LONGEST_SIDE);
    most.max_alloc = Some(limits.memory);
    reader.limits(most);
    let decoder = reader.into_decoder().map_err(refusal)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        let message = format!("it has more than {} pixels", limits.pixels);
        return Err(Refusal::new(Fault::TooLarge, message));
    }
    if decoder.total_bytes() > limits.memory {
        return Err(too_much_memory());
    }
    if width == 0 || height == 0 {
        return Err(Refusal::new(Fault::NotDecodable, "it has no pixels"));
    }
    Ok(decoder)
}

/// The largest size of the same shape that is within another, and not larger than it was.
fn fit((width, height): (u32, u32), within: (u32, u32)) -> (u32, u32) {
    if width <= within.0 && height <= within.1 {
        return (width, height);
    }
    let (width, height) = (u64::from(width), u64::from(height));
    let most = (u64::from(within.0), u64::from(within.1));
    // Which side reaches its bound first.
    let (width, height) = if width * most.1 >= height * most.0 {
        (most.0, (height * most.0 + width / 2) / width)
    } else {
        ((width * most.1 + height / 2) / height, most.1)
    };
    let side = |side: u64| u32::try_from(side).unwrap_or(u32::MAX).max(1);
    (side(width), side(height))
}

fn scale(image: DynamicImage, (width, height): (u32, u32)) -> Result<DynamicImage, Refusal> {
    // Eight bits of colour are what is written.
    let image = match image {
        image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => image,
        image if image.has_alpha() => DynamicImage::ImageRgba8(image.into_rgba8()),
        image => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    if (image.width(), image.height()) == (width, height) {
        return Ok(image);
    }
    let mut scaled = match image.has_alpha() {
        true => DynamicImage::new_rgba8(width, height),
        false => DynamicImage::new_rgb8(width, height),
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new()
        .resize(&image, &mut scaled, &options)
        .map_err(|error| Refusal::new(Fault::NotDecodable, error.to_string()))?;
    Ok(scaled)
}

fn write(image: DynamicImage, format: Format) -> Result<Vec<u8>, Refusal> {
    let mut written = Vec::new();
    let done = match format {
        Format::Jpg => {
            let image = on_white(image);
            image.write_with_encoder(JpegEncoder::new_with_quality(&mut written, JPEG_QUALITY))
        }
        Format::Png => image.write_with_encoder(PngEncoder::new(&mut written)),
        Format::Webp => image.write_with_encoder(WebPEncoder::new_lossless(&mut written)),
    };
    done.map_err(refusal)?;
    Ok(written)
}

/// JPEG knows nothing that can be seen through.
fn on_white(image: DynamicImage) -> DynamicImage {
    if !image.has_alpha() {
        return image;
    }
    let image = image.into_rgba8();
    let mut opaque = image::RgbImage::new(image.width(), image.height());
    for (from, to) in image.pixels().zip(opaque.pixels_mut()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        let mix = |colour: u32| {
            let mixed = (colour * alpha + 255 * (255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        to.0 = [mix(red), mix(green), mix(blue)];
    }
    DynamicImage::ImageRgb8(opaque)
}

/// Whether left and right become top and bottom.
const fn turns(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn too_much_memory() -> Refusal {
    Refusal::new(
        Fault::MemoryLimit,
        "decoding it needs more memory than it may",
    )
}

fn refusal(error: ImageError) -> Refusal {
    match &error {
        ImageError::Limits(limit) => match limit.kind() {
            LimitErrorKind::InsufficientMemory => too_much_memory(),
            _ => Refusal::new(Fault::TooLarge, "it is larger than an image may be"),
        },
        _ => Refusal::new(Fault::NotDecodable, "it is broken, or of an unknown kind"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use image::{ImageEncoder as _, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    const LIMITS: Limits = Limits {
        memory: 256 * 1024 * 1024,
        cpu: 20,
        pixels: 100_000_000,
    };

    /// Left half red, right half blue, with EXIF that says so many turns.
    fn jpeg(width: u32, height: u32, orientation: u8) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
            true => Rgb([255, 0, 0]),
            false => Rgb([0, 0, 255]),
        });
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        let exif = [
            b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
            &[orientation, 0, 0, 0, 0, 0, 0, 0],
        ];
        encoder.set_exif_metadata(exif.concat()).unwrap();
        encoder
            .write_image(&image, width, height, image::ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    fn decoded(bytes: &[u8]) -> DynamicImage {
        image::load_from_memory(bytes).unwrap()
    }

    #[test]
    fn an_image_keeps_its_shape_and_is_never_enlarged() {
        for (size, within, expected) in [
            ((400, 300), (100, 100), (100, 75)),
            ((300, 400), (100, 100), (75, 100)),
            ((400, 300), (400, 300), (400, 300)),
            ((40, 30), (400, 300), (40, 30)),
            ((10_000, 1), (100, 100), (100, 1)),
            ((16_384, 16_384), (1, 4096), (1, 1)),
            ((3, 2), (2, 2), (2, 1)),
        ] {
            assert_eq!(fit(size, within), expected, "{size:?} in {within:?}");
        }
    }

    #[test]
    fn it_is_turned_as_exif_says_and_exif_is_gone() {
        let source = jpeg(400, 200, 6);
        let said = info(&source, "image/jpeg", LIMITS).unwrap();
        assert_eq!(
            (said.width, said.height, said.orientation),
            (Some(200), Some(400), Some(6))
        );
        for format in Format::ALL {
            let made = resize(&source, "image/jpeg", (100, 100), format, LIMITS).unwrap();
            let image = decoded(&made).into_rgb8();
            assert_eq!(image.dimensions(), (50, 100), "{format:?}");
            // What was left is above.
            let (above, below) = (image.get_pixel(25, 10).0, image.get_pixel(25, 90).0);
            assert!(above[0] > 200 && above[2] < 60, "{format:?} {above:?}");
            assert!(below[2] > 200 && below[0] < 60, "{format:?} {below:?}");
            let has = |mark: &[u8]| made.windows(mark.len()).any(|it| it == mark);
            assert!(
                !has(b"Exif") && !has(b"EXIF") && !has(b"eXIf"),
                "{format:?}"
            );
        }
    }

    #[test]
    fn what_is_seen_through_becomes_white_in_jpeg_and_stays_elsewhere() {
        let clear = RgbaImage::from_pixel(20, 20, Rgba([0, 0, 0, 0]));
        let mut source = Vec::new();
        let encoder = PngEncoder::new(&mut source);
        DynamicImage::ImageRgba8(clear)
            .write_with_encoder(encoder)
            .unwrap();
        let made = resize(&source, "image/png", (10, 10), Format::Jpg, LIMITS).unwrap();
        assert!(decoded(&made).into_rgb8().pixels().all(|it| it.0[0] > 250));
        let made = resize(&source, "image/png", (10, 10), Format::Webp, LIMITS).unwrap();
        assert!(decoded(&made).into_rgba8().pixels().all(|it| it.0[3] == 0));
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_head() {
        let source = jpeg(400, 200, 1);
        let few = Limits {
            pixels: 79_999,
            ..LIMITS
        };
        let refused = resize(&source, "image/jpeg", (10, 10), Format::Png, few).unwrap_err();
        assert_eq!(refused.fault, Fault::TooLarge);
        let little = Limits {
            memory: 100_000,
            ..LIMITS
        };
        let refused = resize(&source, "image/jpeg", (10, 10), Format::Png, little).unwrap_err();
        assert_eq!(refused.fault, Fault::MemoryLimit);
    }

    #[test]
    fn what_is_broken_is_refused() {
        let source = jpeg(400, 200, 1);
        for (bytes, media_type) in [
            (&source[..2], "image/jpeg"),
            (b"", "image/png"),
            (&source, "image/png"),
            (&source, "image/tiff"),
        ] {
            let refused = info(bytes, media_type, LIMITS).unwrap_err();
            assert_eq!(refused.fault, Fault::NotDecodable, "{media_type}");
        }
    }
}
