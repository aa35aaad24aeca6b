//! How a lesson is played, and what is written down of it.

use std::fmt::Write;

use anyhow::Result;

use crate::{
    lesson::{Finding, Lesson, Missing},
    stage::Stage,
};

/// What a lesson found out, or what it would have needed.
pub type Found = Result<Finding, Missing>;

/// Plays a lesson: claim, prediction, experiment, numbers and verdict, what to read next.
pub fn play(lesson: &Lesson, stage: &Stage) -> Result<Found> {
    stage.say(format!(
        "\n== {} ==\n\nClaim: {}\n       ({})\n\n{}\n",
        lesson.name, lesson.claim, lesson.told_in, lesson.prediction
    ));
    stage.wait_for_prediction()?;
    let found = match (lesson.experiment)(stage) {
        Ok(finding) => Ok(finding),
        Err(error) => Err(error.downcast::<Missing>()?),
    };
    match &found {
        Ok(finding) => stage.say(format!("\n{}", told(finding))),
        Err(missing) => stage.say(format!("This cannot be shown here: {missing}.")),
    }
    stage.say(format!("\nRead next:\n{}", read(lesson, "  ")));
    Ok(found)
}

fn told(finding: &Finding) -> String {
    let width = finding.numbers.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (what, value) in &finding.numbers {
        let _ = writeln!(text, "  {what:<width$}  {value}");
    }
    let _ = write!(text, "\nVerdict: the claim {}.\n{}", finding.verdict, finding.because);
    text
}

fn read(lesson: &Lesson, indent: &str) -> String {
    let line = |passage: &crate::lesson::Passage| format!("{indent}{}: {} ({})", passage.file, passage.function, passage.shows);
    lesson.read.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All that was found, as Markdown.
pub fn markdown(found: &[(&Lesson, Found)]) -> String {
    let mut text = String::from("# The textbook's claims, tried\n\n| lesson | claim | verdict |\n|---|---|---|\n");
    for (lesson, found) in found {
        let verdict = match found {
            Ok(finding) => finding.verdict.to_string(),
            Err(_) => "could not be tried".into(),
        };
        let _ = writeln!(text, "| {} | {} | {verdict} |", lesson.name, lesson.claim);
    }
    for (lesson, found) in found {
        let _ = write!(text, "\n## {}\n\n{} ({})\n\n", lesson.name, lesson.claim, lesson.told_in);
        match found {
            Ok(finding) => {
                text += "| what | measured |\n|---|---|\n";
                for (what, value) in &finding.numbers {
                    let _ = writeln!(text, "| {what} | {value} |");
                }
                let _ = writeln!(text, "\n**The claim {}.** {}", finding.verdict, finding.because);
            }
            Err(missing) => _ = writeln!(text, "Could not be tried: {missing}."),
        }
        let _ = writeln!(text, "\nRead next:\n\n{}", read(lesson, "- "));
    }
    text
}
