//! Histograms on their way from one process to another: in the format V2 of HdrHistogram, in base 64, for serde's `with`.

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Counter, Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use serde::{Deserialize, de, ser};

pub(crate) fn serialize<T: Counter, S: ser::Serializer>(histograms: &[Histogram<T>], to: S) -> Result<S::Ok, S::Error> {
    let mut serializer = V2Serializer::new();
    let mut encode = |histogram: &Histogram<T>| {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).map_err(ser::Error::custom)?;
        Ok(BASE64_STANDARD.encode(bytes))
    };
    to.collect_seq(histograms.iter().map(&mut encode).collect::<Result<Vec<_>, S::Error>>()?)
}

pub(crate) fn deserialize<'de, T: Counter, D: de::Deserializer<'de>>(from: D) -> Result<Vec<Histogram<T>>, D::Error> {
    let mut deserializer = Deserializer::new();
    let mut decode = |text: &String| {
        let bytes = BASE64_STANDARD.decode(text).map_err(de::Error::custom)?;
        deserializer.deserialize(&mut bytes.as_slice()).map_err(de::Error::custom)
    };
    Vec::<String>::deserialize(from)?.iter().map(&mut decode).collect()
}
