//! Documents read lately on behalf of [`GetSecret`](crate::GetSecret): few, and none of them old.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Document, SecretPath};

/// Most documents kept at once; the oldest makes room.
const CAPACITY: usize = 256;

/// A bounded cache whose entries expire.
#[derive(Debug)]
pub(crate) struct Cache {
    max_age: Duration,
    read: HashMap<SecretPath, (Instant, Arc<Document>)>,
}

impl Cache {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            read: HashMap::new(),
        }
    }

    pub(crate) fn get(&self, path: &SecretPath, now: Instant) -> Option<Arc<Document>> {
        let (read_at, document) = self.read.get(path)?;
        (now.saturating_duration_since(*read_at) < self.max_age).then(|| Arc::clone(document))
    }

    /// Keeps a document that was asked for at `asked_at`: it may be as old as that.
    pub(crate) fn insert(&mut self, path: SecretPath, document: Arc<Document>, asked_at: Instant) {
        if self.read.len() >= CAPACITY && !self.read.contains_key(&path) {
            let oldest = self
                .read
                .iter()
                .min_by_key(|(_, (read_at, _))| *read_at)
                .map(|(path, _)| path.clone());
            oldest.and_then(|path| self.read.remove(&path));
        }
        self.read.insert(path, (asked_at, document));
    }

    /// Drops what is past its age, so that secrets do not linger unused.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.read
            .retain(|_, (read_at, _)| now.saturating_duration_since(*read_at) < self.max_age);
    }

    /// Drops one document.
    pub(crate) fn forget(&mut self, path: &SecretPath) {
        self.read.remove(path);
    }

    pub(crate) fn clear(&mut self) {
        self.read.clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_stays_small_and_forgets_the_oldest() -> Result<(), Box<dyn std::error::Error>> {
        let mut cache = Cache::new(Duration::from_secs(60));
        let document = Arc::new(Document::from_kv1(json!({})).ok_or("no document")?);
        let start = Instant::now();
        for n in 0..=CAPACITY {
            let asked_at = start + Duration::from_millis(u64::try_from(n)?);
            cache.insert(format!("p{n}").parse()?, Arc::clone(&document), asked_at);
        }
        assert_eq!(cache.read.len(), CAPACITY);
        assert!(cache.get(&"p0".parse()?, start).is_none());
        assert!(cache.get(&"p1".parse()?, start).is_some());
        assert!(
            cache
                .get(&"p1".parse()?, start + Duration::from_secs(61))
                .is_none()
        );
        cache.expire(start + Duration::from_secs(61));
        assert!(cache.read.is_empty());
        Ok(())
    }
}
