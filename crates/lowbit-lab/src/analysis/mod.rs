//! Reading the runs of a sweep back: one row per width, and what follows from them.
//!
//! Runs are averaged only where all that decides their results is the same but the seed. A folder may hold runs of several
//! sweeps: each has its own table.

mod csv;
mod rows;
pub mod runs;
mod series;

pub use rows::{Summary, UNEQUAL, WidthRow};

pub(crate) use series::{Kind, federation_words, named_partition, series};

use crate::experiments::sweep::Finished;
use rows::{notes, row, summarize};
use runs::{Run, Runs};
use serde::{Deserialize, Serialize};
use series::Series;
use std::path::Path;

/// What the runs of one sweep came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What the rows share: model, data, recipe.
    #[serde(default)]
    pub title: String,
    /// Rows, widest first.
    pub widths: Vec<WidthRow>,
    /// What they come to.
    pub summary: Summary,
}

/// `results_summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The newest sweep.
    #[serde(flatten)]
    pub newest: Table,
    /// Other sweeps in the same folder, newest first.
    #[serde(default)]
    pub others: Vec<Table>,
    /// What else lies in the folder and is not shown, one line each.
    #[serde(default)]
    pub beside: Vec<String>,
    /// Files that could not be used, and why.
    pub skipped: Vec<String>,
}

/// What the runs come to, sweep by sweep and width by width.
///
/// # Panics
/// If there is no run: [`runs::read`] and a sweep give at least one.
#[must_use]
pub fn analyze(found: &Runs, max_drop: f64) -> Analysis {
    let mut tables = series(&found.runs)
        .into_iter()
        .map(|series| series.table(max_drop));
    Analysis {
        newest: tables.next().expect("at least one run"),
        others: tables.collect(),
        beside: found.beside.clone(),
        skipped: found.skipped.clone(),
    }
}

impl Runs {
    /// The runs of one call of a sweep into `folder`; what else lies there is counted.
    #[must_use]
    pub fn of_call(finished: &[Finished], folder: &Path) -> Self {
        let runs: Vec<Run> = finished
            .iter()
            .map(|run| Run {
                folder: run.folder.clone(),
                results: run.results.clone(),
            })
            .collect();
        let there = runs::read(folder).map_or(vec![], |found| found.runs);
        let others: Vec<Run> = there
            .into_iter()
            .filter(|other| runs.iter().all(|run| run.folder != other.folder))
            .collect();
        let count = |series: &Series<'_>| match series.len() {
            1 => format!("1 run of {}", series.title),
            runs => format!("{runs} runs of {}", series.title),
        };
        Self {
            beside: series(&others).iter().map(count).collect(),
            runs,
            skipped: vec![],
        }
    }
}

impl Series<'_> {
    /// Rows and what they come to.
    fn table(&self, max_drop: f64) -> Table {
        let baseline = self
            .groups
            .iter()
            .find(|(kind, _)| kind.bits == 32)
            .map(|(_, runs)| &runs[..]);
        let rows = self.groups.iter();
        let widths: Vec<_> = rows.map(|(kind, runs)| row(kind, runs, baseline)).collect();
        Table {
            title: self.title.clone(),
            summary: summarize(&widths, max_drop, self.is_federated(), notes(&self.groups)),
            widths,
        }
    }
}

impl Analysis {
    /// All tables, the newest first.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.newest).chain(&self.others)
    }
}
