//! The keys of files.

use std::{path::PathBuf, time::Duration};

use dotmac_platform::settings::{ByteSize, Rules, SecretSetting, between, fixed, lasting, sized};
use url::Url;

dotmac_platform::choice! {
    /// What keeps the bytes of files.
    pub enum Provider {
        /// A directory.
        Local = "local",
        /// A store that speaks S3.
        S3 = "s3",
        /// The same, by another name.
        Minio = "minio",
    }
}

impl Provider {
    /// Whether it is a directory of this machine.
    pub(crate) const fn is_local(self) -> bool {
        matches!(self, Self::Local)
    }
}

dotmac_platform::settings! {
    title: "Files", prefix: "FILES_", rules: FilesSettings::rules;
    /// Files: uploads that are checked, downloads, folders, trash and quotas.
    pub struct FilesSettings {
        /// What keeps the bytes of files: a directory, or a store that speaks S3. `minio` is the same as `s3`.
        provider: Provider { default: fixed("local") }

        /// Directory of the bytes with the provider `local`, made if it is not there. Several instances need one that they share.
        path: PathBuf { default: fixed("dotmac-files") }

        /// Address of the store with the provider `s3`. Unset means that of Amazon in the region.
        endpoint: Option<Url> {}

        /// Bucket in the store, which must be there. Needed with the provider `s3`.
        bucket: Option<String> {}

        /// Region of the store.
        region: String { default: fixed("us-east-1") }

        /// Access key of the store, needed with the provider `s3`.
        access_key: SecretSetting { vault: "storage/access_key", optional: true }

        /// Secret key of the store, needed with the provider `s3`.
        secret_key: SecretSetting { vault: "storage/secret_key", optional: true }

        /// Largest file that is uploaded in one request.
        max_upload: ByteSize { default: fixed("100MiB"), range: sized("1KiB", "5GiB") }

        /// Longest time for such a request.
        upload_timeout: Duration { default: fixed("1h"), range: lasting("1s", "24h") }

        /// Uploads under way at once on one instance. Further ones are answered 503.
        max_uploads: usize { default: fixed("128"), range: between::<usize>("1", "10000") }

        /// Bytes that the files of one tenant may have together, those in the trash among them.
        tenant_quota: ByteSize { default: fixed("100GiB"), range: sized("1B", "1000000GiB") }

        /// Bytes that the files of one user or service account may have together.
        user_quota: ByteSize { default: fixed("100GiB"), range: sized("1B", "1000000GiB") }

        /// How long a deleted file can be restored.
        trash_retention: Duration { default: fixed("30d"), range: lasting("1s", "3650d") }

        /// How often is deleted what uploads have left behind and what was in the trash for long enough.
        sweep_interval: Duration { default: fixed("1m"), range: lasting("100ms", "1d") }

        /// How often the store is compared with the tables.
        check_interval: Duration { default: fixed("6h"), range: lasting("1s", "30d") }
    }
}

impl FilesSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        if self.provider.is_local() {
            return;
        }
        rules.refuse(
            self.bucket.is_none(),
            &["bucket", "provider"],
            format!("it is needed with the provider `{}`", self.provider),
            "set it to the name of a bucket that is there",
        );
        let why = format!("the provider `{}` needs it", self.provider);
        rules.need(&self.access_key, why.clone());
        rules.need(&self.secret_key, why);
    }

    /// The largest file of one request, in bytes.
    pub(crate) fn max_upload(&self) -> usize {
        usize::try_from(self.max_upload.bytes()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::FilesSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<FilesSettings>("files", readme);
    }
}
