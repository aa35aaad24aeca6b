//! Showing the results: on the terminal, as Markdown, CSV and HTML, and in pictures.

pub mod claim;
pub mod diff;
pub mod english;
pub mod files;
pub mod overview;
pub mod picture;
pub mod report;
pub mod sentence;
pub mod summary_csv;
pub mod table;
pub mod terminal;
pub mod tie;
pub mod trace_table;
