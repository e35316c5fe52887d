//! Renditions: at most so many of each file, created once for all its copies, by a job.

use std::str::FromStr;

use dotmac_platform::{
    db::{TenantTx, types::Moment},
    jobs::Enqueue as _,
};

use crate::{
    FilesError,
    decoding::{Format, Task},
    jobs::Render,
    store::{
        blobs,
        files::FileRow,
        renditions::{self, PENDING, RenditionId, RenditionRow},
    },
};

/// The most pixels of a side that are asked for.
const LONGEST_SIDE: u32 = 4096;

const TEXT: &str = "text";
const INFO: &str = "info";

impl Task {
    /// What its result is called among those of its source.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Image {
                width,
                height,
                format,
            } => format!("{width}x{height}.{}", format.text()),
            Self::Text => TEXT.to_owned(),
            Self::Info => INFO.to_owned(),
        }
    }

    /// Reads such a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            TEXT => Some(Self::Text),
            INFO => Some(Self::Info),
            name => Self::of_image(name),
        }
    }

    /// Reads the name of an image in another size: `400x300.webp`.
    pub(crate) fn of_image(name: &str) -> Option<Self> {
        let (size, format) = name.split_once('.')?;
        let (width, height) = size.split_once('x')?;
        let format = Format::ALL.into_iter().find(|it| it.text() == format)?;
        Some(Self::Image {
            width: side(width)?,
            height: side(height)?,
            format,
        })
    }
}

/// A number in its only accepted notation: the same size is kept once.
fn side(text: &str) -> Option<u32> {
    let side = u32::from_str(text).ok()?;
    ((1..=LONGEST_SIDE).contains(&side) && side.to_string() == text).then_some(side)
}

/// What is made of a file, or is to be made of it from now on.
///
/// # Errors
///
/// [`FilesError::Renditions`] if there are too many.
pub(crate) async fn demand(
    tx: &mut TenantTx,
    file: &FileRow,
    task: Task,
    most: u32,
) -> Result<RenditionRow, FilesError> {
    let (source, name) = (file.blob_id, task.name());
    if let Some(found) = renditions::named(tx, source, name.clone()).await? {
        return Ok(found);
    }
    if !blobs::hold(tx, source).await? {
        return Err(FilesError::NotFound);
    }
    if matches!(task, Task::Image { .. }) {
        let others = vec![TEXT.to_owned(), INFO.to_owned()];
        if renditions::count_but(tx, source, others).await? >= i64::from(most) {
            return Err(FilesError::Renditions(most));
        }
    }
    let row = RenditionRow {
        tenant_id: tx.tenant(),
        id: RenditionId::new(),
        source_id: source,
        name: name.clone(),
        state: PENDING.to_owned(),
        blob_id: None,
        size: 0,
        sha256: String::new(),
        fault: None,
        created_at: Moment::now(),
    };
    if renditions::insert(tx, row.clone()).await? {
        let job = Render {
            rendition: row.id,
            media_type: file.media_type.clone(),
        };
        tx.enqueue(&job).await?;
        return Ok(row);
    }
    // Another request was first.
    let found = renditions::named(tx, source, name).await?;
    found.ok_or(FilesError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_size_and_format_in_one_way() {
        for name in ["1x1.jpg", "400x300.webp", "4096x4096.png", "text", "info"] {
            let task = Task::of_name(name);
            assert_eq!(task.map(Task::name).as_deref(), Some(name));
        }
        for name in [
            "",
            "400x300",
            "400.jpg",
            "0x1.jpg",
            "4097x1.jpg",
            "01x1.jpg",
            "+1x1.jpg",
            "1x1.gif",
            "1x1.jpeg",
            "1x1.jpg.png",
            "-1x1.png",
            "1X1.png",
            "1x1.svg",
            "99999999999x1.png",
        ] {
            assert_eq!(Task::of_name(name), None, "{name}");
        }
    }
}
