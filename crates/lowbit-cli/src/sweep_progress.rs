//! How a sweep goes: on a terminal a live table, a line per width and one for the whole; elsewhere a line per epoch.

use crate::progress::{Progress, epoch_line};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lowbit::ModelBits;
use lowbit_lab::experiments::sweep::{RunId, RunResults, SweepEvents};
use lowbit_lab::records::EpochRecord;
use lowbit_lab::{Events, LabError, plural};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Shows a sweep on standard error.
pub(crate) struct SweepProgress<'a> {
    lines: &'a Progress,
    jobs: usize,
    table: Mutex<Option<Table>>,
}

/// The live table.
struct Table {
    _all: MultiProgress,
    widths: Vec<(ModelBits, ProgressBar)>,
    total: ProgressBar,
    start: Instant,
    runs: Vec<RunId>,
    epochs: usize,
    /// Epochs that were trained in this call.
    trained: usize,
    /// Epochs that are done or need not be.
    done: usize,
}

impl<'a> SweepProgress<'a> {
    pub(crate) fn new(lines: &'a Progress, jobs: usize) -> Self {
        Self {
            lines,
            jobs,
            table: Mutex::new(None),
        }
    }

    /// Leaves the table as it stands.
    pub(crate) fn stop(&self) {
        if let Some(table) = self.lock().take() {
            for (_, bar) in &table.widths {
                bar.abandon();
            }
            table.total.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Table>> {
        self.table
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn with(&self, work: impl FnOnce(&mut Table)) {
        if let Some(table) = &mut *self.lock() {
            work(table);
        }
    }
}

impl Table {
    fn new(runs: &[RunId], epochs: usize, target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let mut bits: Vec<ModelBits> = runs.iter().map(|run| run.bits).collect();
        bits.sort_unstable_by(|a, b| b.cmp(a));
        bits.dedup();
        let style = |template: &str| {
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            style.progress_chars("━╸ ")
        };
        let widths = bits.into_iter().map(|bits| {
            let seeds = runs.iter().filter(|run| run.bits == bits).count();
            let bar = all.add(ProgressBar::new((seeds * epochs) as u64));
            bar.set_style(style("{prefix:>7} {bar:16} {wide_msg}"));
            bar.set_prefix(plural::bits(bits));
            bar.set_message("waiting");
            (bits, bar)
        });
        let widths = widths.collect();
        let total = all.add(ProgressBar::new((runs.len() * epochs) as u64));
        total.set_style(style("  total {bar:16} {wide_msg}"));
        total.enable_steady_tick(Duration::from_secs(1));
        Self {
            _all: all,
            widths,
            total,
            start: Instant::now(),
            runs: runs.to_vec(),
            epochs,
            trained: 0,
            done: 0,
        }
    }

    fn bar(&self, bits: ModelBits) -> &ProgressBar {
        let found = self.widths.iter().find(|(known, _)| *known == bits);
        &found.expect("every run was planned").1
    }

    fn advance(&mut self, bits: ModelBits, epochs: usize, jobs: usize) {
        self.done += epochs;
        self.bar(bits).inc(epochs as u64);
        self.total.inc(epochs as u64);
        let left = self.runs.len() * self.epochs - self.done;
        if self.trained > 0 {
            let seconds = self.start.elapsed().as_secs_f64() / self.trained as f64 * left as f64;
            let left = indicatif::HumanDuration(Duration::from_secs_f64(seconds));
            let at_a_time = if jobs > 1 {
                format!(", {jobs} at a time")
            } else {
                String::new()
            };
            self.total.set_message(format!(
                "{}/{} epochs{at_a_time}, {left} left",
                self.done,
                self.runs.len() * self.epochs
            ));
        }
    }
}

impl SweepEvents for SweepProgress<'_> {
    fn planned(&self, runs: &[RunId], epochs: usize) {
        if self.lines.terminal && !self.lines.quiet {
            let target = ProgressDrawTarget::stderr_with_hz(8);
            *self.lock() = Some(Table::new(runs, epochs, target));
        }
    }

    fn run(&self, run: RunId) -> Box<dyn Events + '_> {
        if self.lock().is_none() {
            self.lines
                .line(&format!("{}, seed {}", plural::bits(run.bits), run.seed));
        }
        Box::new(RunProgress {
            sweep: self,
            run,
            images: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
        })
    }

    fn finished(&self, run: RunId, results: &RunResults, earlier: bool) {
        let line = format!(
            "{}, seed {}: {:.2} %{}",
            plural::bits(run.bits),
            run.seed,
            100.0 * results.final_test_accuracy,
            if earlier { ", finished earlier" } else { "" }
        );
        if self.lock().is_none() {
            self.lines.line(&line);
            return;
        }
        self.with(|table| {
            let accuracy = 100.0 * results.final_test_accuracy;
            let bar = table.bar(run.bits);
            bar.set_message(format!("seed {}: {accuracy:.2} %", run.seed));
            if earlier {
                table.advance(run.bits, table.epochs, self.jobs);
            }
        });
    }

    fn failed(&self, run: RunId, _error: &LabError) {
        // The command ends with the reasons.
        if self.lock().is_none() {
            let line = format!("{}: training diverged", run.named());
            self.lines.line(&line);
        }
        self.with(|table| {
            let bar = table.bar(run.bits);
            bar.set_message(format!("seed {}: training diverged", run.seed));
        });
    }

    fn timing(&self, runs: usize) {
        if self.lock().is_none() {
            let runs = if runs == 1 {
                "one run".into()
            } else {
                format!("{runs} runs")
            };
            self.lines.line(&format!("timing {runs}"));
        }
        self.with(|table| table.total.set_message("timing"));
    }
}

/// One run of a sweep.
struct RunProgress<'a> {
    sweep: &'a SweepProgress<'a>,
    run: RunId,
    /// Images per epoch.
    images: AtomicUsize,
    /// Epochs that the table has counted.
    counted: AtomicUsize,
}

impl Events for RunProgress<'_> {
    fn epoch_started(&self, epoch: usize, epochs: usize, images: usize) {
        self.images.store(images, Ordering::Relaxed);
        let seed = self.run.seed;
        // A checkpoint may have spared the first ones.
        let spared = (epoch - 1).saturating_sub(self.counted.swap(epoch - 1, Ordering::Relaxed));
        self.sweep.with(|table| {
            if spared > 0 {
                table.advance(self.run.bits, spared, self.sweep.jobs);
            }
            let bar = table.bar(self.run.bits);
            bar.set_message(format!("seed {seed}, epoch {epoch}/{epochs}"));
        });
    }

    fn batch_done(&self, images: usize, loss: f64, accuracy: f64) {
        let all = self.images.load(Ordering::Relaxed);
        self.sweep.with(|table| {
            let percent = 100 * images / all.max(1);
            table.bar(self.run.bits).set_message(format!(
                "seed {}, {percent:>3} % of an epoch, loss {loss:.3}, accuracy {:.1} %",
                self.run.seed,
                100.0 * accuracy
            ));
        });
    }

    fn epoch_done(&self, record: &EpochRecord, epochs: usize) {
        if self.sweep.lock().is_none() {
            let name = if self.sweep.jobs > 1 {
                format!("{}, seed {}: ", plural::bits(self.run.bits), self.run.seed)
            } else {
                String::new()
            };
            self.sweep
                .lines
                .line(&format!("{name}{}", epoch_line(record, epochs)));
        }
        self.counted.store(record.epoch, Ordering::Relaxed);
        self.sweep.with(|table| {
            table.trained += 1;
            table.advance(self.run.bits, 1, self.sweep.jobs);
        });
        crate::inside::epoch_done(record, epochs);
    }

    fn note(&self, line: &str) {
        if self.sweep.lock().is_none() {
            self.sweep.lines.line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;
    use lowbit::WeightBits;
    use lowbit_lab::evaluate::Score;
    use lowbit_lab::records::Watched;

    fn record(epoch: usize) -> EpochRecord {
        EpochRecord {
            epoch,
            train_loss: 0.5,
            train_accuracy: 0.8,
            watched: Watched::test(Score {
                accuracy: 0.75,
                loss: 0.6,
            }),
            lr: 0.001,
            train_seconds: 1.0,
            train_img_per_s: 100.0,
            logits_digest: None,
        }
    }

    #[test]
    fn the_table_has_a_line_per_width_and_counts_what_a_checkpoint_spared() {
        let narrow = ModelBits::Packed(WeightBits::B2);
        let runs: Vec<RunId> = [
            (ModelBits::Fp32, 1),
            (ModelBits::Fp32, 2),
            (narrow, 1),
            (narrow, 2),
        ]
        .map(|(bits, seed)| RunId { bits, seed })
        .to_vec();
        // Too narrow for the longest line, which must be cut, not wrapped.
        let terminal = InMemoryTerm::new(10, 72);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let lines = Progress::new(true);
        let progress = SweepProgress::new(&lines, 2);
        *progress.lock() = Some(Table::new(&runs, 5, target));
        // The first run goes on after three epochs, trains one and is in its fifth.
        let run = progress.run(runs[0]);
        run.epoch_started(4, 5, 400);
        run.epoch_done(&record(4), 5);
        run.epoch_started(5, 5, 400);
        run.batch_done(100, 0.25, 0.9);
        progress.with(|table| table.total.tick());
        let shown = terminal.contents();
        let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[0].starts_with("32 bits"), "{shown:?}");
        assert!(
            shown[0].ends_with("seed 1,  25 % of an epoch, loss 0.250, accuracy"),
            "{shown:?}"
        );
        assert!(
            shown[1].starts_with(" 2 bits") && shown[1].ends_with("waiting"),
            "{shown:?}"
        );
        assert!(
            shown[2].contains("4/20 epochs, 2 at a time, ") && shown[2].ends_with(" left"),
            "{shown:?}"
        );
    }
}
