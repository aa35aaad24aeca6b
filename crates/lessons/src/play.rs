//! How a lesson is played, and what is written down of it.

use std::fmt::Write;

use anyhow::Result;
use console::{Term, style};

use crate::{
    lesson::{Finding, Lesson, Missing, Passage},
    stage::Stage,
};

/// What a lesson found out, or what it would have needed.
pub type Found = Result<Finding, Missing>;

/// Plays a lesson: claim, prediction, experiment, verdict, what to read next.
pub fn play(lesson: &Lesson, stage: &Stage) -> Result<Found> {
    stage.say(format!("\n{}\n", style(format!("══ {} ══", lesson.name)).bold()));
    stage.say(part("Claim", &format!("{}\n({})", lesson.claim, lesson.told_in)));
    stage.say(part("Prediction", lesson.prediction));
    stage.wait_for_prediction()?;
    stage.say(part("Experiment", ""));
    let found = match (lesson.experiment)(stage) {
        Ok(finding) => Ok(finding),
        Err(error) => Err(error.downcast::<Missing>()?),
    };
    match &found {
        Ok(finding) => {
            stage.say(format!("\n{}\n", numbers(finding)));
            stage.say(part("Verdict", &format!("The claim {}.\n{}", style(&finding.verdict).bold(), finding.because)));
        }
        Err(missing) => stage.say(part("Verdict", &format!("None: this cannot be shown here. {missing}."))),
    }
    stage.say(part("Read next", &read(lesson, "")));
    Ok(found)
}

/// Lines are as long as that at most, however wide the terminal is: longer ones are hard to read on a projector.
const LINE: usize = 100;

/// One of a lesson's five parts, under its name.
fn part(name: &str, text: &str) -> String {
    let width = LINE.min(Term::stdout().size().1.into());
    let lines = textwrap::fill(text, textwrap::Options::new(width).initial_indent("  ").subsequent_indent("  "));
    let name = style(name).bold().cyan();
    if text.is_empty() { name.to_string() } else { format!("{name}\n{lines}\n") }
}

fn numbers(finding: &Finding) -> String {
    let width = finding.numbers.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    finding.numbers.iter().map(|(what, value)| format!("  {what:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

fn read(lesson: &Lesson, indent: &str) -> String {
    let line = |passage: &Passage| format!("{indent}{}: {} ({})", passage.file, passage.function, passage.shows);
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
