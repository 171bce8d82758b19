//! Where text goes: results to standard output, everything else to standard error, as the flags say.

use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

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
            tell(line);
        }
    }

    /// Results: `people` gives the text, unless JSON or quiet is asked for.
    ///
    /// # Errors
    /// Those of [`print()`]. Whatever a command writes to files is written before.
    pub(crate) fn results(
        &self,
        value: &impl Serialize,
        people: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let json = serde_json::to_string_pretty(value).expect("results are plain data");
            print(&format!("{json}\n"))
        } else if self.quiet {
            Ok(())
        } else {
            print(&format!("{}\n", people().trim_end()))
        }
    }

    /// Where the results are: said even when quiet.
    ///
    /// # Errors
    /// Those of [`print()`].
    pub(crate) fn written(&self, what: &std::path::Path) -> Result<(), Failure> {
        let what = what.display();
        if self.json {
            self.note(&format!("results in {what}"));
            Ok(())
        } else if self.quiet {
            print(&format!("{what}\n"))
        } else {
            print(&format!("\nresults in {what}\n"))
        }
    }
}

/// Writes to standard output, with colors where it is a terminal, and flushes.
///
/// # Errors
/// [`Failure::Closed`] when nobody reads any longer, as behind `| head -1`; else [`Failure::Run`] with the system's reason.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// As [`print()`], for what need not be text.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Run(format!("standard output: {error}")),
    })
}

/// Writes a line to standard error, whatever comes of it: a run does not end because nobody can read how it goes.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Says on standard error why a command ends.
pub(crate) fn complain(failure: &Failure) {
    match failure {
        Failure::Input(text) | Failure::Run(text) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            tell(&format!("{red}error:{red:#} {text}"));
        }
        Failure::Usage(text) => tell(text.trim_end()),
        Failure::Told(_) | Failure::Closed => {}
    }
}

/// Bold text on a terminal.
pub(crate) fn bold(text: &str) -> String {
    let style = anstyle::Style::new().bold();
    format!("{style}{text}{style:#}")
}
