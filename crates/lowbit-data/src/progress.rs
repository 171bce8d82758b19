//! How a caller learns what takes so long.

/// What an amount of progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a download.
    Bytes,
    /// Images decoded or generated.
    Images,
}

/// A watcher of long work. The methods may be called from several threads.
pub trait Progress: Sync {
    /// A piece of work of `total` units starts.
    fn begin(&self, what: &str, total: u64, unit: Unit);
    /// `amount` units more are done.
    fn advance(&self, amount: u64);
    /// The piece of work has ended, well or not.
    fn finish(&self);
    /// One line that the user should see.
    fn note(&self, line: &str);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}
