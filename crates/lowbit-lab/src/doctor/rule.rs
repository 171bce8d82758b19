//! What a rule is.

use super::finding::Finding;
use super::looks_at::LooksAt;
use super::patient::Patient;
use crate::LabError;

/// A rule: one thing that may be wrong, and where that is known from.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it looks at.
    pub looks_at: LooksAt,
    /// What it finds.
    pub finds: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// Looks.
    pub(super) look: fn(&Patient<'_>) -> Result<Vec<Finding>, LabError>,
}
