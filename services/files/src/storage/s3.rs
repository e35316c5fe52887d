//! A bucket of a store that speaks S3. Its keys are asked for with each request, so that new ones count at once.

use std::{
    fmt,
    future::ready,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use dotmac_platform::secrets::{ExposeSecret as _, SecretWatch};
use object_store::{
    ClientOptions, CredentialProvider, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential},
    path::Path,
    signer::{Method, Signer as _},
};
use url::Url;

use super::StorageError;

/// How long one request may take, and how long its connection.
const REQUEST: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(2);

/// How long a request is repeated that the store failed to answer.
const RETRIES: Duration = Duration::from_secs(15);

/// Where a bucket is, and the keys to it.
pub(super) struct Bucket {
    pub(super) endpoint: Option<Url>,
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) access: SecretWatch,
    pub(super) secret: SecretWatch,
    pub(super) opened: OnceLock<AmazonS3>,
}

impl Bucket {
    /// An address by which a client can write any bytes under a name for a time.
    pub(super) async fn signed_put(
        &self,
        path: &Path,
        time: Duration,
    ) -> Result<Url, StorageError> {
        let store = self.open()?;
        Ok(store.signed_url(Method::PUT, path, time).await?)
    }

    /// The client of the bucket. Clones share it.
    pub(super) fn open(&self) -> Result<AmazonS3, StorageError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened.clone());
        }
        let built = self.build()?;
        Ok(self.opened.get_or_init(|| built).clone())
    }

    fn build(&self) -> Result<AmazonS3, StorageError> {
        let client = ClientOptions::new()
            .with_timeout(REQUEST)
            .with_connect_timeout(CONNECT);
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: RETRIES,
            ..RetryConfig::default()
        };
        let keys = Keys {
            access: self.access.clone(),
            secret: self.secret.clone(),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_credentials(Arc::new(keys))
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &self.endpoint {
            builder = builder
                .with_endpoint(endpoint.as_str().trim_end_matches('/'))
                .with_allow_http(endpoint.scheme() == "http");
        }
        Ok(builder.build()?)
    }
}

/// The keys as they are now.
struct Keys {
    access: SecretWatch,
    secret: SecretWatch,
}

impl Keys {
    fn now(&self) -> Result<Arc<AwsCredential>, StorageError> {
        match (self.access.get(), self.secret.get()) {
            (Some(access), Some(secret)) => Ok(Arc::new(AwsCredential {
                key_id: access.expose_secret().to_owned(),
                secret_key: secret.expose_secret().to_owned(),
                token: None,
            })),
            _ => Err(StorageError::NoKeys),
        }
    }
}

/// Nothing of the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send>>;

impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    fn get_credential<'s, 'f>(
        &'s self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let keys = self.now().map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        });
        let answer: Answer<_> = Box::pin(ready(keys));
        answer
    }
}
