//! Progress of a federation: a bar over its clients on a terminal, a line per round anywhere.

use crate::output::tell;
use crate::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lowbit_fed::round::FedEvents;
use lowbit_fed::screen::Failure;
use lowbit_lab::experiments::federate::{FederateEvents, FederatedRound};
use std::sync::Mutex;

/// Shows how far a federation is, on standard error.
pub(crate) struct FederateProgress<'a> {
    progress: &'a Progress,
    bar: Mutex<Option<ProgressBar>>,
    rounds: u32,
    /// What the last round came to.
    last: Mutex<String>,
}

/// 10⁶ bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// What a round came to, on one line.
pub(crate) fn round_line(round: &FederatedRound, rounds: usize) -> String {
    let failed = match round.failures.len() {
        0 => String::new(),
        count => format!("  {count} failed"),
    };
    let clients = round.test_per_client.map_or(String::new(), |each| {
        format!(" ({:.2} to {:.2})", 100.0 * each.min, 100.0 * each.max)
    });
    format!(
        "round {:>2}/{rounds}  loss {:.4}  train {:5.2} %  test {:5.2} %{clients}  up {}  down {}  {:.1} s{failed}",
        round.round,
        round.train_loss,
        100.0 * round.train_accuracy,
        100.0 * round.test_accuracy,
        megabytes(round.bytes_up),
        megabytes(round.bytes_down),
        round.training_seconds + round.evaluation_seconds + round.other_seconds,
    )
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

impl<'a> FederateProgress<'a> {
    pub(crate) fn new(progress: &'a Progress, rounds: u32, clients: u32) -> Self {
        let bar = (progress.terminal && !progress.quiet).then(|| {
            let length = u64::from(rounds) * u64::from(clients);
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(length), target);
            let template = "round {prefix} {bar:20} {pos}/{len} trainings {msg} {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            bar.with_style(style.progress_chars("━╸ "))
        });
        Self {
            progress,
            bar: Mutex::new(bar),
            rounds,
            last: Mutex::new(String::new()),
        }
    }

    /// Takes the bar away.
    pub(crate) fn stop(&self) {
        if let Some(bar) = self.bar.lock().expect(NO_PANIC).take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &*self.bar.lock().expect(NO_PANIC) {
            Some(bar) => bar.suspend(|| tell(text)),
            None => self.progress.line(text),
        }
    }
}

impl FedEvents for FederateProgress<'_> {
    fn round_started(&self, round: u32, clients: &[u32]) {
        if let Some(bar) = &*self.bar.lock().expect(NO_PANIC) {
            bar.set_length(u64::from(self.rounds) * clients.len() as u64);
            bar.set_position(u64::from(round - 1) * clients.len() as u64);
            bar.set_prefix(format!("{round}/{}", self.rounds));
            bar.set_message(self.last.lock().expect(NO_PANIC).clone());
        }
    }

    fn client_done(&self, _client: u32, _failure: Option<&Failure>) {
        if let Some(bar) = &*self.bar.lock().expect(NO_PANIC) {
            bar.inc(1);
        }
    }
}

impl FederateEvents for FederateProgress<'_> {
    fn round_done(&self, round: &FederatedRound, rounds: u32, bytes: u64) {
        let accuracy = round.test_accuracy;
        *self.last.lock().expect(NO_PANIC) = format!(
            "test {:.1} % {}",
            100.0 * round.test_accuracy,
            megabytes(bytes)
        );
        self.line(&round_line(round, rounds as usize));
        for failed in &round.failures {
            self.line(&format!("  client {}: {}", failed.client, failed.failure));
        }
        let (round, rounds) = (round.round as usize, rounds as usize);
        crate::inside::checkpoint("round", round, rounds, accuracy);
    }

    fn note(&self, line: &str) {
        self.line(line);
    }
}
