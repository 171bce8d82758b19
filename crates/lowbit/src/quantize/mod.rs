//! The passes that make a [`QuantizedModel`](crate::quant::QuantizedModel) of trained weights.

mod calibrate;
mod ptq;
mod quantizer;
mod ties;

pub use calibrate::{Calibration, calibrate};
pub use ptq::{PtqConfig, QuantError, quantize};
pub use quantizer::Quantizer;
