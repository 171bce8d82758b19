//! FP32, against which all others are measured.

use super::{FP32, Parts, Request, Row, score};
use crate::evaluate::{Evaluation, evaluate};
use crate::statistics::{Summary, above_guessing};
use crate::timing::SpeedCell;
use crate::{LabError, models, timing};
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit_onnx::Contents;
use std::time::Instant;

/// FP32 on both parts.
pub(super) struct Float<'a> {
    model: &'a FloatModel,
    pub(super) choosing: Evaluation,
    verdict: Evaluation,
    images: Vec<u8>,
}

impl<'a> Float<'a> {
    pub(super) fn measure(
        model: &'a FloatModel,
        parts: &Parts,
        request: &Request<'_>,
    ) -> Result<Self, LabError> {
        let file = request.file.display();
        let some = parts
            .choosing
            .take(&(0..parts.choosing.len().min(32)).collect::<Vec<_>>());
        let begun = Instant::now();
        let _ = evaluate(model, &some)?;
        let each = begun.elapsed().as_secs_f64() / some.len() as f64;
        let needed = each * (parts.choosing.len() + parts.verdict.len()) as f64;
        if needed > 0.5 * request.time.as_secs_f64() {
            return Err(LabError::Mismatch(format!(
                "{file}: FP32 alone takes some {needed:.0} s on these images, of {} s: give more --time, or fewer images with --limit",
                request.time.as_secs(),
            )));
        }
        let choosing = evaluate(model, &parts.choosing)?;
        let classes = model.graph().classes();
        let count = parts.choosing.len();
        if choosing.accuracy() <= above_guessing(classes, count) {
            return Err(LabError::Mismatch(format!(
                "{file}: FP32 has {:.1} % of {count} images right, on {classes} classes no more than chance: nothing can be said about quantization; are these its classes, in its order (--labels), and its preprocessing (--preprocess)?",
                100.0 * choosing.accuracy(),
            )));
        }
        let batch = request.batch.min(parts.verdict.len());
        Ok(Self {
            images: parts.verdict.first(batch)?.into_owned(),
            model,
            choosing,
            verdict: evaluate(model, &parts.verdict)?,
        })
    }

    /// The images of a timed call.
    pub(super) fn timed(&self) -> &[u8] {
        &self.images
    }

    /// FP32's row; its time comes from the rounds with the others.
    pub(super) fn row(&self, request: &Request<'_>) -> Row {
        // Of an ONNX file with its weights beside it, those too.
        let bytes = match models::is_onnx(request.file) {
            true => Contents::read(request.file).ok().map(|it| it.bytes),
            false => None,
        };
        let on_disk = || std::fs::metadata(request.file).map_or(0, |file| file.len());
        let bytes = bytes.unwrap_or_else(on_disk);
        Row {
            name: FP32.into(),
            group: FP32.into(),
            bytes,
            seconds: 0.0,
            choosing: score(&self.choosing, &self.choosing),
            verdict: Some(score(&self.verdict, &self.verdict)),
            latency_ms: None,
            speedup: None,
            memory_bytes: None,
            predicted: None,
            epochs: None,
            on_front: false,
            file: None,
            onnx: None,
            command: String::new(),
        }
    }

    /// Measures a quantized model on the images that chose nothing, and its speed in turns with FP32, whose time it returns.
    pub(super) fn complete(
        &self,
        row: &mut Row,
        model: &IntegerModel,
        parts: &Parts,
    ) -> Result<Summary, LabError> {
        row.verdict = Some(score(&self.verdict, &evaluate(model, &parts.verdict)?));
        let SpeedCell {
            fp32_ms,
            quantized_ms,
            speedup,
            ..
        } = timing::in_turns(self.model, model, &self.images);
        row.latency_ms = Some(quantized_ms);
        row.speedup = Some(speedup);
        Ok(fp32_ms)
    }
}
