//! Files that decoders read: photos, drawings and documents, honest ones and bombs.

use std::io::Cursor;

use image::{DynamicImage, ImageEncoder as _, Rgb, RgbImage, codecs::jpeg::JpegEncoder};

/// Left half red, right half blue, in EXIF turned to the right, and taken in a place.
pub(crate) fn photo(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
        true => Rgb([255, 0, 0]),
        false => Rgb([0, 0, 255]),
    });
    let exif = b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x0e\x01\x02\0\x0a\0\0\0\x26\0\0\0\0\0\0\0secret-pl\0";
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    encoder
        .write_image(&image, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

pub(crate) fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .into()
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A PDF with a page for each text.
pub(crate) fn pdf(texts: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        String::new(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        "<< /Title (Annual report) /Author (Ann) /Producer (a test) /CreationDate (D:20260102030405Z) >>".to_owned(),
    ];
    let mut kids = Vec::new();
    for text in texts {
        let content = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET");
        objects.push(format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ));
        let content = objects.len();
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>"
        ));
        kids.push(format!("{} 0 R", objects.len()));
    }
    objects[1] = format!(
        "<< /Type /Pages /Count {} /Kids [{}] >>",
        kids.len(),
        kids.join(" ")
    );
    written(&objects.iter().map(|it| it.as_bytes()).collect::<Vec<_>>())
}

/// A PDF of these objects; the first is the catalogue, the fourth what it says of itself.
pub(crate) fn written(objects: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        bytes.extend_from_slice(object);
        bytes.extend(b"\nendobj\n");
    }
    let xref = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").into_bytes());
    }
    let trailer = format!(
        "trailer\n<< /Size {} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{xref}\n%%EOF\n",
        objects.len() + 1
    );
    bytes.extend(trailer.into_bytes());
    bytes
}

/// Blanks, packed as a PNG or a PDF has them.
pub(crate) fn blanks(size: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; size]).unwrap();
    encoder.finish().unwrap()
}

/// The head of a PNG of that size, with colour and sixteen bits, and an honest checksum.
pub(crate) fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    let mut head = b"IHDR".to_vec();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([16, 6, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    bytes.extend(&head);
    bytes.extend(crc.sum().to_be_bytes());
    let data = blanks(100_000);
    let mut part = b"IDAT".to_vec();
    part.extend(&data);
    let mut crc = flate2::Crc::new();
    crc.update(&part);
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(&part);
    bytes.extend(crc.sum().to_be_bytes());
    bytes.extend(b"\0\0\0\0IEND\xaeB`\x82");
    bytes
}
