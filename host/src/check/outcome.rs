//! The outcomes of the cases, for people and for machines.

use std::fmt::Write;
use std::time::Duration;

use super::Case;

/// The outcome of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case.
    pub case: &'static Case,
    /// How the case ended.
    pub verdict: Verdict,
    /// Time that the case took.
    pub time: Duration,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No mistake was found.
    Passed,
    /// The case does not concern this device, for this reason.
    DoesNotApply(String),
    /// This mistake was found.
    Wrong(String),
}

/// One line of a table.
pub fn table(outcome: &Outcome) -> String {
    let (word, rest) = match &outcome.verdict {
        Verdict::Passed => ("ok", format!("{:.2} s", outcome.time.as_secs_f64())),
        Verdict::DoesNotApply(why) => ("-", why.clone()),
        Verdict::Wrong(what) => ("WRONG", what.replace('\n', "\n                     ")),
    };
    format!("{word:<6} {:<13} {rest}\n", outcome.case.name())
}

/// All outcomes as JUnit's XML.
pub fn junit(suite: &str, outcomes: &[Outcome]) -> String {
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| is(&outcome.verdict)).count();
    let failures = count(|verdict| matches!(verdict, Verdict::Wrong(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::DoesNotApply(_)));
    let time: Duration = outcomes.iter().map(|outcome| outcome.time).sum();
    let suite = escape(suite);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
        outcomes.len(),
        time.as_secs_f64()
    );
    for outcome in outcomes {
        let _ = write!(
            xml,
            "  <testcase classname=\"{suite}\" name=\"{}\" time=\"{:.3}\"",
            outcome.case.name(),
            outcome.time.as_secs_f64()
        );
        let _ = match &outcome.verdict {
            Verdict::Passed => writeln!(xml, "/>"),
            Verdict::DoesNotApply(why) => {
                writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(why))
            }
            Verdict::Wrong(what) => writeln!(xml, "><failure message=\"{}\"/></testcase>", escape(what)),
        };
    }
    xml + "</testsuite>\n"
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // XML cannot represent these.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::CASES;
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_both_forms() {
        let wrong = Verdict::Wrong("byte 3 is <7>,\n\"not\" 8 & so on\u{1}".to_owned());
        let outcomes = [
            Outcome { case: &CASES[0], verdict: Verdict::Passed, time: Duration::from_millis(12) },
            Outcome { case: &CASES[1], verdict: wrong, time: Duration::from_millis(1500) },
        ];
        let xml = junit("a & b", &outcomes);
        assert!(
            xml.contains("name=\"a &amp; b\" tests=\"2\" failures=\"1\" skipped=\"0\" time=\"1.512\""),
            "{xml}"
        );
        assert!(
            xml.contains(
                "<failure message=\"byte 3 is &lt;7&gt;,&#10;&quot;not&quot; 8 &amp; so on\u{fffd}\"/>"
            ),
            "{xml}"
        );
        assert!(table(&outcomes[1]).starts_with("WRONG  "));
        assert!(table(&outcomes[0]).ends_with("0.01 s\n"));
    }
}
