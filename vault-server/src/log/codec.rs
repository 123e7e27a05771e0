//! The codec of a stream, as its settings name it and as its writer sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Deserializer, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use vault_format::codec::Codec;

/// The codec that the next batch is compressed with: a change of the stream's settings moves it under a writer that
/// runs.
#[derive(Clone, Debug)]
pub(crate) struct CodecInForce(Arc<AtomicU8>);

impl CodecInForce {
    pub(crate) fn new(codec: Codec) -> Self {
        Self(Arc::new(AtomicU8::new(codec as u8)))
    }

    pub(crate) fn set(&self, codec: Codec) {
        self.0.store(codec as u8, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Codec {
        Codec::from_byte(self.0.load(Ordering::Relaxed)).expect("a codec was put in")
    }
}

/// Writes a codec's name.
pub(super) fn serialize<S: Serializer>(codec: &Codec, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(codec.name())
}

/// Reads a codec's name that may be left out.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Codec>, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map(Some).map_err(serde::de::Error::custom)
}

/// The names, for the description of the API.
pub(super) fn schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Codec::ALL.map(Codec::name)))
}
