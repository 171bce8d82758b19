//! The passes that make a [`QuantizedModel`](crate::quant::QuantizedModel) of trained weights.

mod calibrate;
mod error;
mod layer_bits;
mod names;
mod passes;
mod ptq;
mod quantizer;
mod ranges;
mod ties;

pub use calibrate::{Calibration, calibrate};
pub use error::QuantError;
pub use layer_bits::{LayerBits, LayerBitsError};
pub use passes::{Passes, PassesError};
pub use ptq::{PtqConfig, at_widths, quantize};
pub use quantizer::Quantizer;
pub use ranges::{channel_extremes, clipped};
