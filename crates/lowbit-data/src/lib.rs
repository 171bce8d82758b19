//! Image data sets for lowbit: sources, splits, the synthetic generator, the decoded cache.
//!
//! [`load`] turns what a user wrote after `--data` into a [`Dataset`]: 8-bit images `[n, h, w, c]` with their
//! labels, in memory or, where they are many, in a file of the cache, split into training and test images, and validation images where a split asks for them. Nothing here prints: what is going on goes to a [`Progress`].

mod assemble;
mod cache;
mod cache_file;
mod contact_sheet;
mod dataset;
mod decode;
mod decoded;
mod decoding;
mod download;
mod error;
mod fingerprint;
mod foreign;
mod identity;
mod in_memory;
mod layout;
mod listing;
mod memory;
mod options;
mod partition;
mod pixels;
mod progress;
mod resize;
mod sources;
mod split;

pub use contact_sheet::contact_sheet;
pub use dataset::{Dataset, Split};
pub use error::DataError;
pub use foreign::what_is;
pub use identity::{Identity, Overlap, Sketch};
pub use in_memory::{InMemory, Labelled};
pub use options::{LoadOptions, default_cache_dir};
pub use partition::{ClassCounts, ClientImages, Partition, labels_per_client};
pub use progress::{Progress, Silent, Unit};
pub use resize::Resize;
pub use sources::load;
pub use split::SplitRule;
