//! Experiments, metrics, statistics, run folders and reports of lowbit.
