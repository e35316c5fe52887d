//! Decodes files: images and PDF.
//!
//! Decoders read untrusted data, so they run in a separate process without network and files, and with limits of time and memory:
//! `process` starts it, `child` is what it does, `sandbox` what it may not do. The decoders themselves are plain functions
//! from bytes to bytes, in `image` and `pdf`.

mod child;
mod image;
mod pdf;
mod process;
mod sandbox;

use serde::{Deserialize, Serialize};

pub(crate) use child::run;
pub(crate) use process::{DecodeError, decode};

/// The largest file that is decoded, in bytes.
pub(crate) const MOST_SOURCE: u64 = 128 * 1024 * 1024;

/// The largest result, in bytes.
pub(crate) const MOST_OUTPUT: usize = 64 * 1024 * 1024;

/// What is to be made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// A smaller image.
    Image {
        /// The most that it may be wide, in pixels.
        width: u32,
        /// The most that it may be high.
        height: u32,
        format: Format,
    },
    /// The text of a PDF.
    Text,
    /// What a PDF or an image says of itself.
    Info,
}

/// What an image is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Jpg,
    Png,
    Webp,
}

impl Format {
    pub(crate) const ALL: [Self; 3] = [Self::Jpg, Self::Png, Self::Webp];

    /// What a name ends with.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Jpg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Jpg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

impl Task {
    /// The media type of the result.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Image { format, .. } => format.media_type(),
            Self::Text => "text/plain",
            Self::Info => "application/json",
        }
    }

    /// Whether a file of that kind can be decoded so.
    pub(crate) fn takes(self, media_type: &str) -> bool {
        let is_image = image::format_of(media_type).is_some();
        let is_pdf = media_type == pdf::MEDIA_TYPE;
        match self {
            Self::Image { .. } => is_image,
            Self::Text => is_pdf,
            Self::Info => is_image || is_pdf,
        }
    }
}

/// What a decoder may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Memory of its process beyond what the program itself takes, in bytes.
    pub(crate) memory: u64,
    /// Processor time, in seconds.
    pub(crate) cpu: u64,
    /// Pixels of an image.
    pub(crate) pixels: u64,
}

/// What the process is asked to do, in the first line that it reads; the file follows.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    task: Task,
    media_type: String,
    limits: Limits,
    /// Bytes of the file.
    size: u64,
}

/// How it went, in the first line that it writes; the result follows.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Done; the result has so many bytes.
    Done(u64),
    /// Not done.
    Refused(Refusal),
}

/// Why a decoder does not decode a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    /// A text for operators, without anything of the file.
    pub(crate) message: String,
}

impl Refusal {
    fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
        }
    }
}

/// The same in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// It is broken, or of a kind that the decoder does not know.
    NotDecodable,
    /// It has more pixels, pages or bytes than may be.
    TooLarge,
    /// A password is needed.
    Encrypted,
    /// The decoder needs more memory than it may have.
    MemoryLimit,
    /// The decoder needs more processor time than it may have.
    CpuLimit,
    /// The decoder did not end in time.
    TimeLimit,
    /// The decoder's process ended before its result.
    Crashed,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] = [
        Self::NotDecodable,
        Self::TooLarge,
        Self::Encrypted,
        Self::MemoryLimit,
        Self::CpuLimit,
        Self::TimeLimit,
        Self::Crashed,
    ];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NotDecodable => "not_decodable",
            Self::TooLarge => "too_large",
            Self::Encrypted => "encrypted",
            Self::MemoryLimit => "memory_limit",
            Self::CpuLimit => "cpu_limit",
            Self::TimeLimit => "time_limit",
            Self::Crashed => "crashed",
        }
    }
}

/// What a file says of itself, as far as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = FileInfo)]
pub(crate) struct Info {
    /// `image` or `pdf`.
    #[schema(example = "pdf")]
    pub(crate) kind: String,
    /// Pixels from left to right as it is shown, of an image.
    pub(crate) width: Option<u32>,
    /// Pixels from top to bottom as it is shown, of an image.
    pub(crate) height: Option<u32>,
    /// Whether an image has pixels that can be seen through.
    pub(crate) has_alpha: Option<bool>,
    /// How an image is to be turned, as EXIF has it: 1 to 8.
    pub(crate) orientation: Option<u8>,
    /// Pages of a PDF.
    #[schema(example = 3)]
    pub(crate) pages: Option<u32>,
    /// The version of PDF.
    #[schema(example = "1.7")]
    pub(crate) pdf_version: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) author: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) keywords: Option<String>,
    /// The program that a PDF was written with.
    pub(crate) creator: Option<String>,
    /// The program that made a PDF of it.
    pub(crate) producer: Option<String>,
    /// As the PDF has it: `D:20260102030405Z`.
    pub(crate) created: Option<String>,
    /// As the PDF has it.
    pub(crate) modified: Option<String>,
}

/// The refusal of a file with more bytes than are decoded.
pub(crate) fn too_large() -> Refusal {
    let message = format!("it has more than {MOST_SOURCE} bytes");
    Refusal::new(Fault::TooLarge, message)
}

/// Does the task upon a file.
fn perform(request: &Request, source: &[u8]) -> Result<Vec<u8>, Refusal> {
    let Request {
        task,
        media_type,
        limits,
        ..
    } = request;
    match task {
        Task::Image {
            width,
            height,
            format,
        } => image::resize(source, media_type, (*width, *height), *format, *limits),
        Task::Text => pdf::text(source, *limits),
        Task::Info => {
            let info = match media_type.as_str() {
                pdf::MEDIA_TYPE => pdf::info(source, *limits),
                media_type => image::info(source, media_type, *limits),
            };
            serde_json::to_vec(&info?)
                .map_err(|error| Refusal::new(Fault::NotDecodable, error.to_string()))
        }
    }
}
