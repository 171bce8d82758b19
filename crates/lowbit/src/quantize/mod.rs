//! The passes that make a [`QuantizedModel`](crate::quant::QuantizedModel) of trained weights.

mod calibrate;
mod exclude;
mod passes;
mod ptq;
mod quantizer;
mod ties;

pub use calibrate::{Calibration, calibrate};
pub use passes::{Passes, PassesError};
pub use ptq::{PtqConfig, QuantError, quantize};
pub use quantizer::Quantizer;
