//! The pictures of a report: SVG that stands by itself, from plain data.
//!
//! plotters draws the shapes. Pictures that need no scripts can be printed and sent, and a page can make them answer the pointer with
//! little code; a charting library for browsers would be larger than the whole page, and draw them a second time.

mod axis;
mod bars;
mod canvas;
mod curves;
mod data;
mod frame;
mod heat;
mod label;
mod marker;
mod palette;
mod percentiles;
#[cfg(test)]
mod tests;

pub use bars::bars;
pub use canvas::standalone;
pub use curves::curves;
pub use data::{Axis, Bar, Curve, Distribution, Dot, Scale, Server, Value, ValueKind};
pub use heat::heat;
pub use marker::glyph;
pub use palette::css;
pub use percentiles::percentiles;
