//! Histograms as text: HdrHistogram's format V2, compressed, in base64, as interval logs and JSON files hold them.

use std::io::Read;

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Counter, Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

/// Bytes before the compressed part of a histogram.
const COOKIE_AND_LENGTH_BYTES: usize = 8;

/// A histogram as text: compressed V2 in base64. It takes a small part of the memory that the histogram itself takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EncodedHistogram(String);

impl EncodedHistogram {
    /// Encodes a histogram.
    pub fn new(histogram: &Histogram<u64>) -> EncodedHistogram {
        EncodedHistogram(encode(histogram))
    }

    /// The histogram.
    pub fn decode(&self) -> Histogram<u64> {
        decode(&self.0).expect("the text was encoded here, or decoded once when it was read")
    }
}

impl TryFrom<String> for EncodedHistogram {
    type Error = String;

    fn try_from(text: String) -> Result<EncodedHistogram, String> {
        decode::<u64>(&text).map(|_| EncodedHistogram(text))
    }
}

impl From<EncodedHistogram> for String {
    fn from(encoded: EncodedHistogram) -> String {
        encoded.0
    }
}

pub(crate) fn encode<T: Counter>(histogram: &Histogram<T>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("writing to memory does not fail");
    BASE64_STANDARD.encode(bytes)
}

/// Decodes a histogram; damage does not go unnoticed, since the compressed part carries a checksum.
pub(crate) fn decode<T: Counter>(text: &str) -> Result<Histogram<T>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|cause| format!("the histogram is damaged: {cause}"))?;
    let Some((&[_, _, _, _, length @ ..], compressed)) = bytes.split_first_chunk::<COOKIE_AND_LENGTH_BYTES>() else {
        return Err("the histogram is damaged: it ends early".into());
    };
    if u32::from_be_bytes(length) as usize != compressed.len() {
        return Err("the histogram is damaged: its length is wrong".into());
    }
    // The deserializer stops at the last count, before the checksum.
    ZlibDecoder::new(compressed).read_to_end(&mut Vec::new()).map_err(|cause| format!("the histogram is damaged: {cause}"))?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|cause| format!("the histogram cannot be read: {cause}"))
}

/// Lists of histograms, for serde's `with`.
pub(crate) mod list {
    use hdrhistogram::{Counter, Histogram};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Counter, S: Serializer>(histograms: &[Histogram<T>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(histograms.iter().map(super::encode))
    }

    pub(crate) fn deserialize<'de, T: Counter, D: Deserializer<'de>>(from: D) -> Result<Vec<Histogram<T>>, D::Error> {
        Vec::<String>::deserialize(from)?.iter().map(|text| super::decode(text).map_err(Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Times;

    #[test]
    fn a_histogram_survives_and_damage_is_reported() {
        let mut histogram = Times::default().all;
        histogram.record_n(1_234_567, 89).unwrap();
        let text = serde_json::to_string(&EncodedHistogram::new(&histogram)).unwrap();
        assert_eq!(serde_json::from_str::<EncodedHistogram>(&text).unwrap().decode(), histogram);
        for damaged in ["\"?\"", "\"HIST\""] {
            let error = serde_json::from_str::<EncodedHistogram>(damaged).unwrap_err();
            assert!(error.to_string().contains("the histogram is damaged"), "{error}");
        }
    }
}
