//! Rounding f32 to integers and back, and integer passes between layers (add, pooling).
