//! Progress: a bar on a terminal, a line per epoch elsewhere, nothing when quiet.

use crate::output::tell;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lowbit_data::Unit;
use lowbit_lab::Events;
use lowbit_lab::records::EpochRecord;
use std::io::IsTerminal;
use std::sync::Mutex;

/// Shows how far things are, on standard error.
pub(crate) struct Progress {
    pub(crate) quiet: bool,
    pub(crate) terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            quiet,
            terminal,
            bar: Mutex::new(None),
        }
    }

    pub(crate) fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let bar = self
            .bar
            .lock()
            .expect("nothing panics while it holds the lock");
        match &*bar {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }

    fn start(&self, length: u64, template: &str) {
        if self.quiet || !self.terminal {
            return;
        }
        let bar =
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(template).expect("the template is fixed");
        bar.set_style(style.progress_chars("━╸ "));
        *self
            .bar
            .lock()
            .expect("nothing panics while it holds the lock") = Some(bar);
    }

    fn with_bar(&self, work: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self
            .bar
            .lock()
            .expect("nothing panics while it holds the lock")
        {
            work(bar);
        }
    }

    /// Takes the bar away.
    pub(crate) fn stop(&self) {
        let bar = self
            .bar
            .lock()
            .expect("nothing panics while it holds the lock")
            .take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }
}

/// What an epoch came to, on one line.
pub(crate) fn epoch_line(record: &EpochRecord, epochs: usize) -> String {
    format!(
        "epoch {:>2}/{epochs}  loss {:.4}  train {:5.2} %  {} {:5.2} %  {:5.0} img/s  {:.1} s",
        record.epoch,
        record.train_loss,
        100.0 * record.train_accuracy,
        record.watched.images(),
        100.0 * record.watched.score().accuracy,
        record.train_img_per_s,
        record.train_seconds,
    )
}

impl Events for Progress {
    fn stage(&self, what: &str) {
        if self.terminal {
            self.stop();
            if what != "training" {
                self.start(0, "{spinner} {msg}");
                self.with_bar(|bar| {
                    bar.set_message(what.to_owned());
                    bar.enable_steady_tick(std::time::Duration::from_millis(120));
                });
            }
        } else {
            self.line(what);
        }
    }

    fn epoch_started(&self, epoch: usize, epochs: usize, images: usize) {
        let template = "epoch {prefix} {bar:16} {pos}/{len} {msg} {eta} left";
        self.start(images as u64, template);
        self.with_bar(|bar| bar.set_prefix(format!("{epoch}/{epochs}")));
    }

    fn batch_done(&self, images: usize, loss: f64, accuracy: f64) {
        self.with_bar(|bar| {
            bar.set_position(images as u64);
            let rate = bar.per_sec();
            let percent = 100.0 * accuracy;
            bar.set_message(format!("{rate:.0} img/s loss {loss:.3} acc {percent:.1} %"));
        });
    }

    fn epoch_done(&self, record: &EpochRecord, epochs: usize) {
        self.stop();
        self.line(&epoch_line(record, epochs));
        crate::inside::epoch_done(record, epochs);
    }

    fn note(&self, line: &str) {
        self.line(line);
    }
}

impl lowbit_data::Progress for Progress {
    fn begin(&self, what: &str, total: u64, unit: Unit) {
        let template = match unit {
            Unit::Bytes => "{prefix} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            Unit::Images => "{prefix} {bar:20} {pos}/{len} images {eta} left",
        };
        self.start(total, template);
        self.with_bar(|bar| bar.set_prefix(what.to_owned()));
    }

    fn advance(&self, amount: u64) {
        self.with_bar(|bar| bar.inc(amount));
    }

    fn finish(&self) {
        self.stop();
    }

    fn note(&self, line: &str) {
        self.line(line);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}
