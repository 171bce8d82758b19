//! The passes that make a [`QuantizedModel`](crate::quant::QuantizedModel) of trained weights.

mod calibrate;
mod ptq;

pub use calibrate::{Calibration, calibrate};
pub use ptq::{PtqConfig, QuantError, quantize};
