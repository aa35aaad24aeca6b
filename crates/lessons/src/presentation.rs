//! Runs a lesson and presents its parts, in the terminal and as Markdown.

use std::fmt::Write;

use anyhow::Result;
use console::{Term, style};

use crate::{
    lab::{Lab, Unavailable},
    lesson::{Finding, Lesson, Passage},
};

/// A lesson's finding, or why this machine cannot run its experiment.
pub type Outcome = Result<Finding, Unavailable>;

/// Runs a lesson and prints claim, prediction, experiment, verdict, and what to read next.
pub fn run(lesson: &Lesson, lab: &Lab) -> Result<Outcome> {
    lab.print(format!("\n{}\n", style(format!("══ {} ══", lesson.name)).bold()));
    lab.print(part("Claim", &format!("{}\n(Source: {}.)", lesson.claim, lesson.source)));
    lab.print(part("Prediction", lesson.prediction));
    lab.wait_for_prediction()?;
    lab.print(part("Experiment", ""));
    let look = lab.look()?;
    let outcome = match (lesson.experiment)(lab) {
        Ok(finding) => Ok(judged_by_machine(lesson, finding, lab.disturbance(look)?.spoils())),
        Err(error) => Err(error.downcast::<Unavailable>()?),
    };
    match &outcome {
        Ok(finding) => {
            lab.print(format!("\n{}\n", numbers(finding)));
            lab.print(part("Verdict", &format!("The claim {}.\n{}", style(&finding.verdict).bold(), finding.reason)));
        }
        Err(unavailable) => lab.print(part("Verdict", &format!("None: the experiment cannot run here. {unavailable}."))),
    }
    lab.print(part("Read next", &read_next(lesson, "")));
    Ok(outcome)
}

/// The finding, unless the machine was so disturbed that its times say nothing.
fn judged_by_machine(lesson: &Lesson, finding: Finding, spoiled: Option<String>) -> Finding {
    match spoiled {
        Some(reason) if lesson.is_timed => finding.of_disturbed_machine(&reason),
        _ => finding,
    }
}

/// The longest line, however wide the terminal is: longer ones are hard to read on a projector.
const MAX_LINE_WIDTH: usize = 100;

/// One of a lesson's five parts, under its name.
fn part(name: &str, text: &str) -> String {
    let width = MAX_LINE_WIDTH.min(Term::stdout().size().1.into());
    let lines = textwrap::fill(text, textwrap::Options::new(width).initial_indent("  ").subsequent_indent("  "));
    let name = style(name).bold().cyan();
    if text.is_empty() { name.to_string() } else { format!("{name}\n{lines}\n") }
}

fn numbers(finding: &Finding) -> String {
    let width = finding.numbers.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    finding.numbers.iter().map(|(label, value)| format!("  {label:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

fn read_next(lesson: &Lesson, indent: &str) -> String {
    let line = |passage: &Passage| format!("{indent}{}: {} ({})", passage.file, passage.function, passage.shows);
    lesson.read_next.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All outcomes, as Markdown.
pub fn markdown(outcomes: &[(&Lesson, Outcome)]) -> String {
    let mut text = String::from("# Textbook claims, tested\n\n| lesson | claim | verdict |\n|---|---|---|\n");
    for (lesson, outcome) in outcomes {
        let verdict = match outcome {
            Ok(finding) => finding.verdict.to_string(),
            Err(_) => "not tested".into(),
        };
        let _ = writeln!(text, "| {} | {} | {verdict} |", lesson.name, lesson.claim);
    }
    for (lesson, outcome) in outcomes {
        let _ = write!(text, "\n## {}\n\n{} (Source: {}.)\n\n", lesson.name, lesson.claim, lesson.source);
        match outcome {
            Ok(finding) => {
                text += "| quantity | measured |\n|---|---|\n";
                for (label, value) in &finding.numbers {
                    let _ = writeln!(text, "| {label} | {value} |");
                }
                let _ = writeln!(text, "\n**The claim {}.** {}", finding.verdict, finding.reason);
            }
            Err(unavailable) => _ = writeln!(text, "Not tested: {unavailable}."),
        }
        let _ = writeln!(text, "\nRead next:\n\n{}", read_next(lesson, "- "));
    }
    text
}
