//! Where text goes: results to standard output, everything else to standard error, as the flags say.

use serde::Serialize;

/// What of the output is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    /// A line for people, before or between the results.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            anstream::eprintln!("{line}");
        }
    }

    /// Results: `people` prints the text, unless JSON or quiet is asked for.
    pub(crate) fn results(&self, value: &impl Serialize, people: impl FnOnce() -> String) {
        if self.json {
            let json = serde_json::to_string_pretty(value).expect("results are plain data");
            println!("{json}");
        } else if !self.quiet {
            anstream::println!("{}", people().trim_end());
        }
    }

    /// Where the results are: said even when quiet.
    pub(crate) fn written(&self, what: &std::path::Path) {
        if self.json {
            self.note(&format!("results in {}", what.display()));
        } else if self.quiet {
            println!("{}", what.display());
        } else {
            println!("\nresults in {}", what.display());
        }
    }
}

/// Bold text on a terminal.
pub(crate) fn bold(text: &str) -> String {
    let style = anstyle::Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// 1,738,408
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_738_408), "1,738,408");
    }
}
