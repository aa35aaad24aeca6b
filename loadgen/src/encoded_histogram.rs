//! Histograms as text: HdrHistogram's format V2, compressed, in base64, as interval logs and JSON files hold them.

use std::{fmt::Display, io::Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Counter, Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use crate::Times;

/// The most values of one: a thousand of them can be added up.
const MOST_VALUES: u64 = 1 << 44;

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
        let (histogram, ours) = (decode::<u64>(&text)?, Times::default().all);
        let range = |of: &Histogram<u64>| (of.low(), of.high(), of.sigfig());
        if range(&histogram) != range(&ours) {
            return Err("the histogram has another range or precision than loadgen's".into());
        }
        if histogram.len() > MOST_VALUES {
            return Err(format!("the histogram is damaged: it holds {} values", histogram.len()));
        }
        Ok(EncodedHistogram(text))
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

/// Decodes a histogram of format V0, V1 or V2. Damage does not go unnoticed, since the compressed part carries a checksum, and a
/// header that lies takes no memory: what is inflated and allocated is bounded by what the histogram's range can hold.
pub(crate) fn decode<T: Counter>(text: &str) -> Result<Histogram<T>, String> {
    let damaged = |what: &dyn Display| format!("the histogram is damaged: {what}");
    let bytes = BASE64_STANDARD.decode(text).map_err(|cause| damaged(&cause))?;
    let (cookie, bytes) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged(&"it ends early"))?;
    let version =
        version(u32::from_be_bytes(*cookie), COMPRESSED_COOKIES).ok_or_else(|| damaged(&"it does not begin as one"))?;
    let (length, compressed) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged(&"it ends early"))?;
    if u32::from_be_bytes(*length) as usize != compressed.len() {
        return Err(damaged(&"its length is wrong"));
    }
    let mut inflating = ZlibDecoder::new(compressed);
    let mut header = [0; V1_HEADER_BYTES];
    let header = &mut header[..if version == Version::V0 { V0_HEADER_BYTES } else { V1_HEADER_BYTES }];
    inflating.read_exact(header).map_err(|cause| damaged(&cause))?;
    let header = Header::read(version, header).ok_or_else(|| damaged(&"its header is none"))?;
    let most = header.most_slots().ok_or_else(|| damaged(&"its range or precision is impossible"))? * MAX_COUNT_BYTES;
    let mut counts = Vec::new();
    inflating.take(most as u64 + 1).read_to_end(&mut counts).map_err(|cause| damaged(&cause))?;
    if counts.len() > most || header.payload_bytes.is_some_and(|bytes| bytes != counts.len()) {
        return Err(damaged(&"its counts are more or fewer than its header says"));
    }
    let v2 = header.to_v2(&counts).ok_or_else(|| damaged(&"its counts are not whole numbers of their size"))?;
    Deserializer::new().deserialize(&mut v2.as_slice()).map_err(|cause| format!("the histogram cannot be read: {cause}"))
}

/// The versions of the encoding. All begin with a cookie, in which the bits 0xf0 are the bytes per count (V0 and V1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V0,
    V1,
    V2,
}

/// Cookies of compressed histograms, and of what is compressed, as in HdrHistogram's AbstractHistogram.java.
const COMPRESSED_COOKIES: [u32; 3] = [0x1c84_9309, 0x1c84_9302, 0x1c84_9304];
const COOKIES: [u32; 3] = [0x1c84_9308, 0x1c84_9301, 0x1c84_9303];
const COUNT_BYTES_BITS: u32 = 0xf0;
const V2_COOKIE: u32 = 0x1c84_9313;

/// Cookie, digits, lowest, highest, total count.
const V0_HEADER_BYTES: usize = 32;
/// Cookie, payload length, normalizing offset, digits, lowest, highest, ratio. V2 has the same.
const V1_HEADER_BYTES: usize = 40;
/// In V2 a count takes as many bytes as it needs, at most these.
const MAX_COUNT_BYTES: usize = 9;
const MAX_DIGITS: u32 = 5;

fn version(cookie: u32, cookies: [u32; 3]) -> Option<Version> {
    let place = cookies.iter().position(|&known| known == cookie & !COUNT_BYTES_BITS)?;
    Some([Version::V0, Version::V1, Version::V2][place])
}

/// What precedes the counts.
struct Header {
    version: Version,
    count_bytes: usize,
    payload_bytes: Option<usize>,
    normalizing_offset: u32,
    digits: u32,
    low: u64,
    high: u64,
}

impl Header {
    fn read(expected: Version, bytes: &[u8]) -> Option<Header> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let cookie = u32_at(0)?;
        let version = version(cookie, COOKIES).filter(|&version| version == expected)?;
        let count_bytes = ((cookie & COUNT_BYTES_BITS) >> 4) as usize & 0xe;
        Some(match version {
            Version::V0 => Header {
                version,
                count_bytes,
                payload_bytes: None,
                normalizing_offset: 0,
                digits: u32_at(4)?,
                low: u64_at(8)?,
                high: u64_at(16)?,
            },
            Version::V1 | Version::V2 => Header {
                version,
                count_bytes,
                payload_bytes: Some(u32_at(4)? as usize),
                normalizing_offset: u32_at(8)?,
                digits: u32_at(12)?,
                low: u64_at(16)?,
                high: u64_at(24)?,
            },
        })
    }

    /// The number of counts that the range and the precision can take, and no fewer; `None` if they are impossible.
    fn most_slots(&self) -> Option<usize> {
        if self.digits > MAX_DIGITS || self.low == 0 || self.high < self.low.checked_mul(2)? || self.high > i64::MAX as u64 {
            return None;
        }
        let sub_buckets = (2 * 10_usize.pow(self.digits)).next_power_of_two();
        let buckets = (u64::BITS - (self.high / self.low).leading_zeros()) as usize + 1;
        Some((buckets + 1) * sub_buckets)
    }

    /// The whole as V2 without compression, which is what is read.
    fn to_v2(&self, counts: &[u8]) -> Option<Vec<u8>> {
        let counts = match self.version {
            Version::V2 => counts.to_vec(),
            Version::V0 | Version::V1 => self.fixed_to_variable(counts)?,
        };
        let mut v2 = Vec::with_capacity(V1_HEADER_BYTES + counts.len());
        v2.extend(V2_COOKIE.to_be_bytes());
        v2.extend(u32::try_from(counts.len()).ok()?.to_be_bytes());
        v2.extend(self.normalizing_offset.to_be_bytes());
        v2.extend(self.digits.to_be_bytes());
        v2.extend(self.low.to_be_bytes());
        v2.extend(self.high.to_be_bytes());
        v2.extend(1_f64.to_be_bytes());
        v2.extend(counts);
        Some(v2)
    }

    /// Counts of a fixed number of bytes, as the numbers of variable length that V2 has (ZigZag, LEB128).
    fn fixed_to_variable(&self, counts: &[u8]) -> Option<Vec<u8>> {
        if ![2, 4, 8].contains(&self.count_bytes) || !counts.len().is_multiple_of(self.count_bytes) {
            return None;
        }
        let mut variable = Vec::new();
        for count in counts.chunks_exact(self.count_bytes) {
            let count = count.iter().fold(0_u64, |count, &byte| count << 8 | u64::from(byte));
            let mut zigzag = i64::try_from(count).ok()?.cast_unsigned() << 1;
            // Seven bits per byte; the ninth has eight.
            for byte in 1..=MAX_COUNT_BYTES {
                if byte == MAX_COUNT_BYTES || zigzag < 0x80 {
                    variable.push(zigzag as u8);
                    break;
                }
                variable.push(zigzag as u8 | 0x80);
                zigzag >>= 7;
            }
        }
        Some(variable)
    }
}

/// A histogram, for serde's `with`.
pub(crate) fn serialize<T: Counter, S: serde::Serializer>(histogram: &Histogram<T>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encode(histogram))
}

pub(crate) fn deserialize<'de, T: Counter, D: serde::Deserializer<'de>>(from: D) -> Result<Histogram<T>, D::Error> {
    decode(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// A histogram that may be missing, for serde's `with`.
pub(crate) mod option {
    use hdrhistogram::{Counter, Histogram};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<T: Counter, S: Serializer>(histogram: &Option<Histogram<T>>, to: S) -> Result<S::Ok, S::Error> {
        histogram.as_ref().map(super::encode).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Counter, D: Deserializer<'de>>(from: D) -> Result<Option<Histogram<T>>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| super::decode(&text).map_err(Error::custom)).transpose()
    }
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
