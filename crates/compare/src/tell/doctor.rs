//! The condition of the machine as text: all findings, those that disturb in one line each, and what differs between two runs.

use textwrap::{Options, WordSeparator, WordSplitter};

use crate::{
    run::manifest::Run,
    stats::diagnosis::{self, Finding, Severity},
};

/// The width of every terminal.
const COLUMNS: usize = 80;

/// The width of the two columns in front of a text, and both as spaces.
const SUBJECT: usize = 14;
const SEVERITY: usize = 10;
const INDENT: &str = "                        ";

/// All findings: what was seen, its effect, and what to do. Words are never broken, so that commands can be copied.
pub fn report(findings: &[Finding], watched_s: f64) -> String {
    let many = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let summary = format!(
        "{} of {} findings disturb a comparison on this machine, {} more are worth noting, {} are unknown. Its processors were \
         watched for {watched_s:.1} s.",
        many(Severity::Disturbs),
        findings.len(),
        many(Severity::Note),
        many(Severity::Unknown)
    );
    let summary = fill(&summary, "", "");
    findings.iter().fold(summary, |text, finding| format!("{text}\n\n{}", paragraph(finding)))
}

fn paragraph(finding: &Finding) -> String {
    let Finding { subject, severity, seen, effect, advice } = finding;
    let [subject, severity] = [subject.to_string(), severity.to_string()];
    let lines =
        [(subject.as_str(), severity.as_str(), Some(seen)), ("", "effect", effect.as_ref()), ("", "to do", advice.as_ref())];
    let lines = lines
        .into_iter()
        .filter_map(|(subject, name, text)| Some(fill(text?, &format!("{subject:<SUBJECT$}{name:<SEVERITY$}"), INDENT)));
    lines.collect::<Vec<_>>().join("\n")
}

fn fill(text: &str, head: &str, indent: &str) -> String {
    let options = Options::new(COLUMNS).initial_indent(head).subsequent_indent(indent).break_words(false);
    textwrap::fill(text, options.word_separator(WordSeparator::AsciiSpace).word_splitter(WordSplitter::NoHyphenation))
}

/// One line for each finding that disturbs; `None` without one.
pub fn disturbances(findings: &[Finding]) -> Option<String> {
    let disturbing = findings.iter().filter(|finding| finding.severity == Severity::Disturbs);
    let lines: Vec<_> = disturbing.map(|finding| format!("disturbed by {}: {}", finding.subject, finding.seen)).collect();
    (!lines.is_empty()).then(|| format!("{}\n(`compare doctor` shows what that means, and what to do)", lines.join("\n")))
}

/// How the conditions of two runs differ, one line per finding. Of what was measured only the severity is compared: the numbers
/// themselves differ each time.
pub fn differences(before: &Run, after: &Run) -> Vec<String> {
    let findings = |run: &Run| Some(diagnosis::findings(&run.machine, &run.processors, run.condition.as_ref()?));
    let (before, after) = match (findings(before), findings(after)) {
        (Some(before), Some(after)) => (before, after),
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec!["condition of the machine: not kept in the earlier run".into()],
        (Some(_), None) => return vec!["condition of the machine: not kept in the later run".into()],
    };
    let line = |one: &Finding| {
        let other = after.iter().find(|other| other.subject == one.subject)?;
        let is_other = one.severity != other.severity || !one.subject.is_measured() && one.seen != other.seen;
        let described = |finding: &Finding| format!("{} ({})", finding.seen, finding.severity);
        is_other.then(|| format!("{}: {} -> {}", one.subject, described(one), described(other)))
    };
    before.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        run::condition::{Condition, ProcessorCondition, Quota},
        stats::diagnosis::Subject,
        synthetic::SyntheticRun,
    };

    /// Run on a machine that disturbs in all ways.
    fn bad() -> Run {
        let processor = |cpu| ProcessorCondition {
            cpu,
            siblings: Some("0-1".into()),
            governor: Some("powersave".into()),
            others_share: Some(0.5),
            steal_share: Some(0.3),
            interrupts_per_s: Some(123_456.0),
            busiest_interrupt: Some("36 virtio1-req.0".into()),
            busiest_interrupt_per_s: Some(100_000.0),
            pauses: Some(1000),
            paused_share: Some(0.38),
            longest_pause_ns: Some(48_000_000),
        };
        let condition = Condition {
            watched_s: 1.0,
            clock_source: Some("hpet".into()),
            turbo: Some(true),
            quota: Some(Quota { processors: 0.5, group: format!("/docker/{}", "0123456789abcdef".repeat(4)) }),
            isolated: Some("0,2".into()),
            nohz_full: Some("0".into()),
            processors: vec![processor(0), processor(1)],
            findings: Vec::new(),
        };
        with(Some(condition))
    }

    fn with(condition: Option<Condition>) -> Run {
        Run { condition, ..SyntheticRun::of(&["--experiment", "churn"]).run }
    }

    fn of(run: &Run) -> Vec<Finding> {
        diagnosis::findings(&run.machine, &run.processors, run.condition.as_ref().unwrap())
    }

    #[test]
    fn lines_fit_a_terminal_and_no_word_is_broken() {
        let findings = of(&bad());
        let text = report(&findings, 1.0);
        // A name that is longer than a line has one of its own.
        let fits = |line: &str| line.chars().count() <= COLUMNS || !line.trim().contains(' ');
        assert!(text.lines().all(fits), "{text}");
        let words: Vec<_> = text.split_whitespace().collect();
        for finding in &findings {
            for text in [Some(&finding.seen), finding.effect.as_ref(), finding.advice.as_ref()].into_iter().flatten() {
                let expected: Vec<_> = text.split_whitespace().collect();
                assert!(words.windows(expected.len()).any(|found| found == expected), "{text}");
            }
        }
    }

    #[test]
    fn commands_are_on_lines_of_their_own_and_columns_are_aligned() {
        let text = report(&of(&bad()), 1.0);
        let command = format!("{INDENT}cpupower frequency-set -g performance");
        assert!(text.lines().any(|line| line == command), "{text}");
        assert!(text.lines().any(|line| line == "governor      disturbs  powersave"), "{text}");
        assert!(text.starts_with("7 of 12 findings disturb"), "{text}");
    }

    #[test]
    fn a_run_prints_what_disturbs_in_one_line_each_and_nothing_else() {
        let findings = of(&bad());
        let lines = disturbances(&findings).unwrap();
        assert_eq!(lines.lines().count(), 7 + 1, "{lines}");
        assert!(lines.contains("disturbed by governor: powersave\n") && !lines.contains("turbo"), "{lines}");
        let harmless: Vec<_> = findings.into_iter().filter(|finding| finding.subject == Subject::Turbo).collect();
        assert_eq!(disturbances(&harmless), None);
    }

    #[test]
    fn settings_that_differ_are_told_and_measurements_only_when_they_are_judged_differently() {
        let change = |change: fn(&mut Condition)| {
            let mut after = bad();
            change(after.condition.as_mut().unwrap());
            differences(&bad(), &after)
        };
        assert_eq!(change(|_| ()), Vec::<String>::new());
        let governor = change(|condition| condition.processors[1].governor = Some("performance".into()));
        assert_eq!(governor, ["governor: powersave (disturbs) -> performance on 1, powersave on 0 (disturbs)"]);
        assert_eq!(change(|condition| condition.processors[0].others_share = Some(0.7)), Vec::<String>::new());
        let load = change(|condition| {
            condition.processors.iter_mut().for_each(|processor| processor.others_share = Some(0.04));
        });
        let [load] = &load[..] else { panic!("{load:?}") };
        assert!(load.starts_with("other load: ") && load.contains("(disturbs) -> ") && load.ends_with("(note)"), "{load}");
    }

    #[test]
    fn a_run_that_kept_no_condition_is_named_once() {
        assert_eq!(differences(&with(None), &with(None)), Vec::<String>::new());
        assert_eq!(differences(&with(None), &bad()), ["condition of the machine: not kept in the earlier run"]);
        assert_eq!(differences(&bad(), &with(None)), ["condition of the machine: not kept in the later run"]);
    }
}
