//! Showing the results: on the terminal, as Markdown, CSV and HTML, and in pictures.

mod claim;
pub mod diff;
pub mod disturbed;
pub mod doctor;
pub mod files;
pub mod findings;
mod legend;
mod markdown;
mod overview;
mod picture;
mod report;
mod sentences;
mod summary_csv;
mod tables;
pub mod terminal;
mod text;
mod tie;
mod trace_table;
