//! PDF: its text, and what it says of itself.

use lopdf::{Document, Error, LoadOptions, Object, decode_text_string};

use super::{Fault, Info, Limits, MOST_OUTPUT, Refusal};

pub(super) const MEDIA_TYPE: &str = "application/pdf";

/// The most pages whose text is read.
const MOST_PAGES: usize = 5000;

/// The longest value of what a PDF says of itself, in bytes.
const LONGEST_VALUE: usize = 1024;

/// The text of all pages, each ended by a form feed.
pub(super) fn text(source: &[u8], limits: Limits) -> Result<Vec<u8>, Refusal> {
    let (document, most) = open(source, limits)?;
    let pages = document.get_pages();
    if pages.len() > MOST_PAGES {
        let message = format!("it has more than {MOST_PAGES} pages");
        return Err(Refusal::new(Fault::TooLarge, message));
    }
    let mut text = String::new();
    for number in pages.into_keys() {
        let page = document.extract_text_with_limit(&[number], most);
        text.push_str(page.map_err(refusal)?.trim_end());
        text.push('\u{c}');
        if text.len() > MOST_OUTPUT {
            let message = format!("its text has more than {MOST_OUTPUT} bytes");
            return Err(Refusal::new(Fault::TooLarge, message));
        }
    }
    Ok(text.into_bytes())
}

/// Its pages, author, title and similar fields.
pub(super) fn info(source: &[u8], limits: Limits) -> Result<Info, Refusal> {
    let (document, _) = open(source, limits)?;
    let said = document.trailer.get(b"Info").ok();
    let said = said.and_then(|it| match it {
        Object::Reference(id) => document.get_dictionary(*id).ok(),
        other => other.as_dict().ok(),
    });
    let value = |key: &[u8]| {
        let object = said?.get(key).ok()?;
        let object = match object {
            Object::Reference(id) => document.get_object(*id).ok()?,
            object => object,
        };
        let text = decode_text_string(object).ok()?;
        let text: String = text.chars().filter(|it| !it.is_control()).collect();
        let text = text[..text.floor_char_boundary(LONGEST_VALUE)].trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (title, author, subject) = (value(b"Title"), value(b"Author"), value(b"Subject"));
    Ok(Info {
        kind: "pdf".to_owned(),
        pages: u32::try_from(document.get_pages().len()).ok(),
        title,
        author,
        subject,
        keywords: value(b"Keywords"),
        creator: value(b"Creator"),
        producer: value(b"Producer"),
        created: value(b"CreationDate"),
        modified: value(b"ModDate"),
        pdf_version: Some(document.version.clone()),
        ..Info::default()
    })
}

/// Reads a document; also how many bytes one of its streams may have once it is unpacked.
fn open(source: &[u8], limits: Limits) -> Result<(Document, usize), Refusal> {
    // Of what there is, since several are held at once.
    let most = usize::try_from(limits.memory / 4).unwrap_or(usize::MAX);
    let options = LoadOptions::with_max_decompressed_size(most);
    let document = Document::load_mem_with_options(source, options).map_err(refusal)?;
    if document.is_encrypted() {
        return Err(Refusal::new(Fault::Encrypted, "it needs a password"));
    }
    Ok((document, most))
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Decompress(lopdf::DecompressError::MemoryLimitExceeded { .. }) => Refusal::new(
            Fault::MemoryLimit,
            "unpacking it needs more memory than it may",
        ),
        _ => Refusal::new(Fault::NotDecodable, "it is broken, or no PDF"),
    }
}
