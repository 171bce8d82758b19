//! What rules look at.

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LooksAt {
    /// An ONNX file as it was written.
    OnnxFile,
    /// Quantized weights, in an ONNX file or one of lowbit's.
    Weights,
    /// Any model file.
    File,
    /// A model that lowbit runs, and images.
    Images,
    /// A model that lowbit runs, and at least so many test images.
    TestImages(usize),
    /// A model that lowbit runs, and at least so many test images of a class, as a mean.
    TestImagesPerClass(usize),
    /// A model of f32 weights that lowbit runs, and images.
    FloatImages,
    /// A quantized model that lowbit runs, and images.
    QuantizedImages,
    /// A checkpoint of a training.
    Checkpoint,
    /// A quantized model that lowbit runs, images and time.
    Timing,
}

impl LooksAt {
    /// What a user must give, for the table of rules.
    #[must_use]
    pub fn described(self) -> String {
        let fixed = match self {
            Self::OnnxFile => "ONNX",
            Self::Weights => "quantized model",
            Self::File => "any model",
            Self::Images => "`--data`",
            Self::TestImages(fewest) => return format!("`--data`, {fewest} test images"),
            Self::TestImagesPerClass(fewest) => {
                return format!("`--data`, {fewest} test images of a class");
            }
            Self::FloatImages => "FP32 model, `--data`",
            Self::QuantizedImages => "quantized model, `--data`",
            Self::Checkpoint => "checkpoint of a training",
            Self::Timing => "quantized model, `--data`, `--time`",
        };
        fixed.to_owned()
    }
}
