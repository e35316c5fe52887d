//! Uploads in one request.

use std::collections::BTreeMap;

use dotmac_platform::{
    access::Principal,
    prelude::*,
    routing::{FormField, IncomingBody, IncomingForm, RequestHead},
};

use super::{
    bodies::{FileBody, UploadForm, UploadQuery},
    created,
};
use crate::{
    FilesError, Write,
    digest::Announced,
    names::ROOT,
    rules::files::{Create, Labels},
    service::Service,
    upload::{Goal, Intent, Received, receive},
};

/// The largest field of a form that is not its file, in bytes.
const LONGEST_LABEL: usize = 2048;
const LONGEST_METADATA: usize = 128 * 1024;

/// What a form has around its file at the least, in bytes; less is reserved of the quota by so much, and the rest as it comes.
const FORM_LINES: u64 = 1024;

pub(super) async fn upload(
    who: Can<Write>,
    on: Use<Service>,
    query: Query<UploadQuery>,
    head: RequestHead,
    mut body: IncomingBody,
) -> Result<Created<Versioned<FileBody>>, FilesError> {
    let UploadQuery { name, folder } = query.into_inner();
    let labels = Labels {
        name,
        folder: folder.unwrap_or_else(|| ROOT.to_owned()),
        metadata: BTreeMap::new(),
    };
    let (labels, digest) = (labels.checked()?, Announced::of(&head)?);
    let declared = body.content_type().map(str::to_owned);
    let intent = Intent {
        announced: body.announced(),
        declared: declared.as_deref(),
        digest: &digest,
    };
    let received = receive(&on, &who, intent, &mut body).await?;
    let create = Create {
        labels,
        declared: declared.map(shortened),
    };
    received.keep(Goal::Create(create)).await.map(created)
}

pub(super) async fn upload_form(
    who: Can<Write>,
    on: Use<Service>,
    head: RequestHead,
    mut form: IncomingForm<UploadForm>,
) -> Result<Created<Versioned<FileBody>>, FilesError> {
    // The hash of the headers is that of the whole form.
    Announced::refuse(&head)?;
    let mut fields = Fields::default();
    let read = fields.read_all(&on, &who, &mut form).await;
    let create = read.and_then(|()| fields.create());
    match (fields.received.take(), create) {
        (Some(received), Ok(create)) => {
            let goal = Goal::Create(create);
            received.keep(goal).await.map(created)
        }
        (Some(received), Err(error)) => Err(received.refuse(error).await),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(FilesError::Form("file".into(), "is missing")),
    }
}

/// What a form has in it.
#[derive(Default)]
struct Fields {
    received: Option<Received>,
    declared: Option<String>,
    file_name: Option<String>,
    name: Option<String>,
    folder: Option<String>,
    metadata: Option<String>,
}

impl Fields {
    /// Takes every field.
    async fn read_all(
        &mut self,
        on: &Service,
        who: &Principal,
        form: &mut IncomingForm<UploadForm>,
    ) -> Result<(), FilesError> {
        let announced = form
            .announced()
            .map(|bytes| bytes.saturating_sub(FORM_LINES));
        while let Some(mut field) = form.next().await? {
            match field.name() {
                "file" if self.received.is_some() => {
                    return Err(FilesError::Form("file".into(), "is there more than once"));
                }
                "file" => {
                    self.declared = field.content_type();
                    self.file_name = field.file_name();
                    let declared = self.declared.clone();
                    let intent = Intent {
                        announced,
                        declared: declared.as_deref(),
                        digest: &Announced::default(),
                    };
                    self.received = Some(receive(on, who, intent, &mut field).await?);
                }
                _ => self.read(field).await?,
            }
        }
        Ok(())
    }

    /// Takes a field that is not the file.
    async fn read(&mut self, field: FormField) -> Result<(), FilesError> {
        let name = field.name().to_owned();
        let (place, most) = match name.as_str() {
            "name" => (&mut self.name, LONGEST_LABEL),
            "folder" => (&mut self.folder, LONGEST_LABEL),
            "metadata" => (&mut self.metadata, LONGEST_METADATA),
            _ => return Err(FilesError::Form(name.into(), "is no field of this form")),
        };
        if place.is_some() {
            return Err(FilesError::Form(name.into(), "is there more than once"));
        }
        *place = Some(field.text(most).await?);
        Ok(())
    }

    /// What the file is to be called, once all fields are there.
    fn create(&mut self) -> Result<Create, FilesError> {
        if self.received.is_none() {
            return Err(FilesError::Form("file".into(), "is missing"));
        }
        let name = self.name.take().or(self.file_name.take());
        let name = name.ok_or_else(|| {
            FilesError::field("name", "is needed, as a field or as the name of the file")
        })?;
        let metadata = self.metadata.take();
        let metadata = metadata.map(|text| serde_json::from_str(&text)).transpose();
        let metadata = metadata.map_err(|_| {
            FilesError::field("metadata", "is a JSON object whose values are texts")
        })?;
        let labels = Labels {
            name,
            folder: self.folder.take().unwrap_or_else(|| ROOT.to_owned()),
            metadata: metadata.unwrap_or_default(),
        };
        Ok(Create {
            labels: labels.checked()?,
            declared: self.declared.take().map(shortened),
        })
    }
}

/// The declared type is kept for display, up to a length.
pub(super) fn shortened(declared: String) -> String {
    declared
        .chars()
        .filter(|letter| !letter.is_control())
        .take(255)
        .collect()
}
