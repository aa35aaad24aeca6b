//! The lessons, one file each, in the order in which a course would have them.

mod all_active;
mod backlog;
mod busy_wait;
mod coordinated_omission;
mod half_close;
mod head_of_line;
mod io_bound_cpu_bound;
mod level_and_edge;
mod lost_bytes;
mod many_idle;
mod poll_interval;
mod speed_order;
mod sticky_packets;
mod thread_price;
mod time_wait;
mod two_phases;

use crate::lesson::Lesson;

/// All lessons.
pub static LESSONS: &[&Lesson] = &[
    &head_of_line::LESSON,
    &two_phases::LESSON,
    &busy_wait::LESSON,
    &poll_interval::LESSON,
    &sticky_packets::LESSON,
    &lost_bytes::LESSON,
    &thread_price::LESSON,
    &many_idle::LESSON,
    &all_active::LESSON,
    &io_bound_cpu_bound::LESSON,
    &backlog::LESSON,
    &time_wait::LESSON,
    &half_close::LESSON,
    &level_and_edge::LESSON,
    &coordinated_omission::LESSON,
    &speed_order::LESSON,
];

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_lesson_has_its_five_parts_and_a_unique_name() {
        for lesson in LESSONS {
            assert!(
                lesson.claim.ends_with('.') && lesson.prediction.ends_with('?') && !lesson.source.is_empty(),
                "{}",
                lesson.name
            );
            assert!(!lesson.read_next.is_empty(), "{}", lesson.name);
        }
        assert_eq!(LESSONS.iter().map(|lesson| lesson.name).collect::<HashSet<_>>().len(), LESSONS.len());
    }

    #[test]
    fn every_passage_to_read_next_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for passage in LESSONS.iter().flat_map(|lesson| lesson.read_next) {
            let text = fs::read_to_string(root.join(passage.file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {}", passage.function)), "{} has no {}", passage.file, passage.function);
        }
    }
}
