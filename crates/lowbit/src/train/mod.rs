//! Forward and backward.
