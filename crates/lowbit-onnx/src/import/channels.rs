//! Operators that take channels apart and together.
