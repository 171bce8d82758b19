//! Image data sets for lowbit: sources, splits, the synthetic generator, the decoded cache.
