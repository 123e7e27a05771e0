//! Which messages a read wants.

use vault_format::record::Record;

/// What a message must have. A filter that asks for nothing lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Exactly this key; an empty one means none.
    pub(crate) key: Option<Vec<u8>>,
    /// All these headers, names and values.
    pub(crate) headers: Vec<(String, String)>,
}

impl Filter {
    /// Whether everything passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none() && self.headers.is_empty()
    }

    /// Whether a message passes.
    pub(crate) fn passes(&self, record: &Record<'_>) -> bool {
        let has = |(name, value): &(String, String)| record.headers().any(|found| found == (name, value));
        self.key.as_ref().is_none_or(|key| record.key == key) && self.headers.iter().all(has)
    }

    /// A number that tells filters apart.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        let mut part = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        part(&[u8::from(self.key.is_some())]);
        part(self.key.as_deref().unwrap_or_default());
        for (name, value) in &self.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        digest.finalize()
    }
}

#[cfg(test)]
mod tests {
    use vault_format::record::Message;

    use super::*;

    fn filter(key: Option<&str>, headers: &[(&str, &str)]) -> Filter {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Filter { key: key.map(|key| key.as_bytes().to_vec()), headers }
    }

    #[test]
    fn everything_that_is_asked_for_must_be_there() {
        let mut bytes = Vec::new();
        let headers = &[("a", "1"), ("b", "2")];
        Message { key: b"k", headers, value: b"v", ..Message::default() }.encode(0, &mut bytes);
        let record = Record::take(&mut bytes.as_slice()).unwrap();
        for (filter, passes) in [
            (filter(None, &[]), true),
            (filter(Some("k"), &[]), true),
            (filter(Some("K"), &[]), false),
            (filter(Some(""), &[]), false),
            (filter(None, &[("b", "2")]), true),
            (filter(None, &[("b", "1")]), false),
            (filter(None, &[("B", "2")]), false),
            (filter(None, &[("a", "1"), ("b", "2")]), true),
            (filter(Some("k"), &[("a", "1"), ("c", "2")]), false),
            (filter(None, &[("a", "1"), ("a", "2")]), false),
        ] {
            assert_eq!(filter.passes(&record), passes, "{filter:?}");
        }
        let digests =
            [filter(None, &[]), filter(Some(""), &[]), filter(None, &[("", "")])].map(|f| f.digest());
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    }
}
