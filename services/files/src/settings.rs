//! The keys of files.

use std::{path::PathBuf, time::Duration};

use dotmac_platform::settings::{ByteSize, Rules, SecretSetting, between, fixed, lasting, sized};
use url::Url;

use crate::{decoding::Limits, scanner::Address};

dotmac_platform::choice! {
    /// The store of files.
    pub enum Provider {
        /// A directory.
        Local = "local",
        /// An S3 store.
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
    /// Files: checked uploads, downloads, folders, trash and quotas.
    pub struct FilesSettings {
        /// The store of files: a directory, or an S3 store. `minio` is the same as `s3`.
        provider: Provider { default: fixed("local") }

        /// Directory of the provider `local`, created if it is missing. Several instances need a shared one.
        path: PathBuf { default: fixed("dotmac-files") }

        /// Address of the store with the provider `s3`. Unset means that of Amazon in the region.
        endpoint: Option<Url> {}

        /// Bucket in the store, which must exist. Needed with the provider `s3`.
        bucket: Option<String> {}

        /// Region of the store.
        region: String { default: fixed("us-east-1") }

        /// Access key of the store, needed with the provider `s3`.
        access_key: SecretSetting { vault: "storage/access_key", optional: true }

        /// Secret key of the store, needed with the provider `s3`.
        secret_key: SecretSetting { vault: "storage/secret_key", optional: true }

        /// Largest file of an upload in one request.
        max_upload: ByteSize { default: fixed("100MiB"), range: sized("1KiB", "5GiB") }

        /// Largest file of an upload in parts, by tus.
        max_size: ByteSize { default: fixed("5GiB"), range: sized("1KiB", "5120GiB") }

        /// How long an upload in parts can be resumed.
        upload_expiry: Duration { default: fixed("24h"), range: lasting("1m", "30d") }

        /// Longest time of one upload request.
        upload_timeout: Duration { default: fixed("1h"), range: lasting("1s", "24h") }

        /// Uploads under way at once on one instance. Further ones get 503.
        max_uploads: usize { default: fixed("128"), range: between::<usize>("1", "10000") }

        /// Limit of the bytes of one tenant's files, including the trash.
        tenant_quota: ByteSize { default: fixed("100GiB"), range: sized("1B", "1000000GiB") }

        /// Limit of the bytes of one user's or service account's files.
        user_quota: ByteSize { default: fixed("100GiB"), range: sized("1B", "1000000GiB") }

        /// Former contents kept of each file. They count as used bytes; a new one displaces the oldest.
        versions: usize { default: fixed("10"), range: between::<usize>("0", "100") }

        /// How long a deleted file can be restored.
        trash_retention: Duration { default: fixed("30d"), range: lasting("1s", "3650d") }

        /// Renditions kept of one image. Further ones get 422.
        max_renditions: u32 { default: fixed("32"), range: between::<u32>("1", "10000") }

        /// How long images in other sizes, texts and metadata are kept. They are created again at the next request.
        rendition_retention: Duration { default: fixed("30d"), range: lasting("1s", "3650d") }

        /// Memory that decoding one file may take.
        decode_memory: ByteSize { default: fixed("512MiB"), range: sized("32MiB", "16GiB") }

        /// Processor time that decoding one file may take.
        decode_cpu_time: Duration { default: fixed("20s"), range: lasting("1s", "60s") }

        /// Most pixels of a decoded image.
        decode_pixels: u64 { default: fixed("100000000"), range: between::<u64>("1", "1000000000") }

        /// Address of clamd, which scans files for viruses: `tcp://127.0.0.1:3310` or `unix:/run/clamav/clamd.ctl`.
        /// Unset means no scans.
        clamd: Option<String> {}

        /// Longest time for one scan.
        scan_timeout: Duration { default: fixed("2m"), range: lasting("1s", "30m") }

        /// Interval of the cleanup of unfinished uploads and of the trash.
        sweep_interval: Duration { default: fixed("1m"), range: lasting("100ms", "1d") }

        /// How often the store is compared with the tables.
        check_interval: Duration { default: fixed("6h"), range: lasting("1s", "30d") }
    }
}

impl FilesSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        rules.refuse(
            self.clamd.is_some() && self.clamd().is_none(),
            &["clamd"],
            "it is no address of clamd",
            "write `tcp://HOST:PORT` or `unix:/PATH`",
        );
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

    /// Where clamd listens, if files are scanned.
    pub(crate) fn clamd(&self) -> Option<Address> {
        Address::parse(self.clamd.as_deref()?)
    }

    /// What decoding a file may take.
    pub(crate) fn decode_limits(&self) -> Limits {
        Limits {
            memory: self.decode_memory.bytes(),
            cpu: self.decode_cpu_time.as_secs(),
            pixels: self.decode_pixels,
        }
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
