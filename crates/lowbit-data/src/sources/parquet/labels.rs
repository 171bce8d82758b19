//! The labels of all rows: numbers of classes, or their names.

use std::collections::BTreeSet;
use std::path::Path;

use super::column::{self, Number};
use super::footer::Group;
use super::{broken, decode};
use crate::DataError;

/// The most classes accepted where no metadata names them.
const MAX_CLASSES: usize = 1 << 16;

/// Labels as the files hold them, in the order of rows.
#[derive(Default)]
pub(super) struct Labels {
    numbers: Vec<i64>,
    names: Vec<String>,
}

impl Labels {
    pub(super) fn len(&self) -> usize {
        self.numbers.len().max(self.names.len())
    }

    /// Reads those of one row group on.
    pub(super) fn read(
        &mut self,
        path: &Path,
        group: &Group,
        kind: Option<Number>,
    ) -> Result<(), DataError> {
        let read = match kind {
            Some(kind) => decode(path, group.labels, group.rows, |chunk| {
                self.numbers.extend(column::numbers(chunk, kind)?);
                Ok(())
            }),
            None => decode(path, group.labels, group.rows, |chunk| {
                let found = column::binaries(chunk)?;
                for row in 0..group.rows {
                    let name = found
                        .get(row)
                        .and_then(|name| std::str::from_utf8(name).ok());
                    let name = name.ok_or_else(|| format!("that of row {row} is no text"))?;
                    self.names.push(name.to_owned());
                }
                Ok(())
            }),
        };
        read.map_err(|reason| broken(path, format!("the labels: {reason}")))?;
        match self.numbers.is_empty() || self.names.is_empty() {
            true => Ok(()),
            false => {
                let reason = "its labels are of another kind (numbers or names) than those of the files before it";
                Err(broken(path, reason.into()))
            }
        }
    }

    /// The classes' names and each row's class; `stated` are the names that the files' metadata state.
    pub(super) fn resolved(
        self,
        path: &Path,
        stated: Option<Vec<String>>,
    ) -> Result<(Vec<String>, Vec<u32>), DataError> {
        if self.names.is_empty() {
            let classes = stated.unwrap_or_else(|| numbered(&self.numbers));
            let labels = checked(path, &self.numbers, classes.len())?;
            return Ok((classes, labels));
        }
        let classes = named(&self.names, stated);
        if classes.len() > MAX_CLASSES {
            let reason = format!("{} different labels are not classes", classes.len());
            return Err(broken(path, reason));
        }
        let places: std::collections::HashMap<&str, u32> =
            classes.iter().map(String::as_str).zip(0..).collect();
        let labels = self
            .names
            .iter()
            .map(|name| places[name.as_str()])
            .collect();
        Ok((classes, labels))
    }
}

/// The stated names where they cover all that occur; else those that occur, in order: whole numbers by value.
fn named(names: &[String], stated: Option<Vec<String>>) -> Vec<String> {
    let occurring: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if let Some(stated) = stated {
        let known: BTreeSet<&str> = stated.iter().map(String::as_str).collect();
        if occurring.is_subset(&known) {
            return stated;
        }
    }
    let mut classes: Vec<&str> = occurring.into_iter().collect();
    if classes.iter().all(|name| name.parse::<u64>().is_ok()) {
        classes.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
    }
    classes.into_iter().map(str::to_owned).collect()
}

/// Names for classes that nothing names: their numbers.
fn numbered(labels: &[i64]) -> Vec<String> {
    let last = labels.iter().copied().max().unwrap_or(-1);
    let classes = last.saturating_add(1).clamp(0, MAX_CLASSES as i64);
    (0..classes).map(|class| class.to_string()).collect()
}

fn checked(path: &Path, labels: &[i64], classes: usize) -> Result<Vec<u32>, DataError> {
    let fits = |(index, &label): (usize, &i64)| match usize::try_from(label) {
        Ok(class) if class < classes => Ok(class as u32),
        _ => Err(DataError::LabelOutOfRange {
            path: path.to_owned(),
            index,
            label,
            classes,
        }),
    };
    labels.iter().enumerate().map(fits).collect()
}
