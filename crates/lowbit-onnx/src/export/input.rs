//! What stands between the model's input and its first layer.

use super::{Attribute, Elements, ExportError, Exporter, Input, Source};
use crate::proto::tensor_proto::DataType;
use lowbit::quant::ActivationParams;

/// The name of normalized pixels.
pub(super) const IMAGE: &str = "image";
/// The name of pixels.
pub(super) const PIXELS: &str = "pixels";

/// From how far between two integers the real zero of pixels is moved onto one before they are rounded.
const FAR: f64 = 0.25;
/// How near to the middle between two integers a pixel must not lie, in steps: preprocessing in f32 could go either way.
const NEAR: f64 = 1e-4;

impl Exporter<'_> {
    /// Makes value 0 of the model's input; returns the input's type.
    pub(super) fn input(&mut self, input: Input) -> Result<DataType, ExportError> {
        if self.graph.input().rank() != 3 {
            return Err(ExportError::Model(format!(
                "its input {} is no image",
                self.graph.input()
            )));
        }
        let name = match input {
            Input::Normalized => IMAGE,
            Input::Pixels => PIXELS,
        };
        let name = self.writer.name(name);
        let value = match (self.params(0), input) {
            (None, Input::Normalized) => name,
            (None, Input::Pixels) => self.normalized(&name),
            (Some(params), Input::Pixels) if self.is_uniform() => {
                self.dequantize("input", &name, params)
            }
            (Some(params), Input::Pixels) => {
                let real = self.normalized(&name);
                self.check_codes(params);
                self.quantized("input", &real, params)
            }
            (Some(params), Input::Normalized) => {
                let real = self.onto_the_grid(&name);
                self.check_codes(params);
                self.quantized("input", &real, params)
            }
        };
        self.values.push(value);
        Ok(match input {
            Input::Normalized => DataType::Float,
            Input::Pixels => DataType::Uint8,
        })
    }

    /// Whether pixels stand for themselves.
    fn is_uniform(&self) -> bool {
        match self.source {
            Source::Quantized(model) => model.has_pixels_as_integers(),
            Source::Float(_) => false,
        }
    }

    /// `pixels·scale + shift`, per channel.
    fn normalized(&mut self, pixels: &str) -> String {
        let maps = self.maps();
        let kind = Attribute::Int(DataType::Float as i64);
        let real = self
            .writer
            .node("input.cast", "Cast", &[pixels], &[("to", kind)]);
        let dims = [1, maps.len(), 1, 1];
        let scale: Vec<f32> = maps.iter().map(|map| map.0).collect();
        let shift: Vec<f32> = maps.iter().map(|map| map.1).collect();
        let scale = self
            .writer
            .tensor("input.factor", &dims, &Elements::F32(&scale));
        let shift = self
            .writer
            .tensor("input.summand", &dims, &Elements::F32(&shift));
        let scaled = self
            .writer
            .node("input.scale", "Mul", &[&real, &scale], &[]);
        self.writer
            .node("input.shift", "Add", &[&scaled, &shift], &[])
    }

    /// Where the real zero lies in the middle between two integers, so does every pixel, and rounding could go either way: all
    /// are moved by what is missing to the integer.
    fn onto_the_grid(&mut self, image: &str) -> String {
        let Source::Quantized(model) = self.source else {
            return image.to_owned();
        };
        let residual = model.image_residual();
        if residual.abs() < FAR {
            return image.to_owned();
        }
        let moved = -residual * f64::from(model.image_params().scale);
        let moved = self
            .writer
            .tensor("input.to_grid", &[], &Elements::F32(&[moved as f32]));
        self.writer.node("input.move", "Add", &[image, &moved], &[])
    }

    /// Scale and shift of each channel's pixels.
    fn maps(&self) -> Vec<(f32, f32)> {
        let normalization = self.graph.normalization();
        let (mean, std) = (normalization.mean(), normalization.std());
        let of = |values: &[f32], c: usize| values[c % values.len()];
        (0..mean.len().max(std.len()))
            .map(|c| (1.0 / (255.0 * of(std, c)), -of(mean, c) / of(std, c)))
            .collect()
    }

    /// Notes pixels whose normalized value lies so near to the middle between two integers that an f32 may fall on either
    /// side: of pixels that stand for themselves there are none.
    fn check_codes(&mut self, params: ActivationParams) {
        if self.is_uniform() {
            return;
        }
        let maps = self.maps();
        let steps = |(scale, shift): (f32, f32), x: u8| {
            let real = f64::from(x) * f64::from(scale) + f64::from(shift);
            real / f64::from(params.scale)
        };
        let is_near = |map, x| ((steps(map, x) - steps(map, x).floor()) - 0.5).abs() < NEAR;
        for (c, &map) in maps.iter().enumerate() {
            for x in 0..=u8::MAX {
                if is_near(map, x) {
                    self.notes.push(format!(
                        "pixels of {x} in channel {c} lie in the middle between two steps: another program's preprocessing may take them for the other one"
                    ));
                }
            }
        }
    }
}
