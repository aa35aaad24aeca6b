//! The lessons, one file each, in the order in which a course would have them.

mod all_active;
mod head_of_line;
mod many_idle;
mod speed_order;
mod thread_price;

use crate::lesson::Lesson;

/// All of them.
pub static LESSONS: [&Lesson; 5] =
    [&head_of_line::LESSON, &thread_price::LESSON, &many_idle::LESSON, &all_active::LESSON, &speed_order::LESSON];

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_lesson_has_its_five_parts_and_a_name_of_its_own() {
        for lesson in LESSONS {
            assert!(
                lesson.claim.ends_with('.') && lesson.prediction.ends_with('?') && !lesson.told_in.is_empty(),
                "{}",
                lesson.name
            );
            assert!(!lesson.read.is_empty(), "{}", lesson.name);
        }
        assert_eq!(LESSONS.iter().map(|lesson| lesson.name).collect::<HashSet<_>>().len(), LESSONS.len());
    }

    #[test]
    fn what_is_to_be_read_next_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for passage in LESSONS.iter().flat_map(|lesson| lesson.read) {
            let text = fs::read_to_string(root.join(passage.file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {}", passage.function)), "{} has no {}", passage.file, passage.function);
        }
    }
}
