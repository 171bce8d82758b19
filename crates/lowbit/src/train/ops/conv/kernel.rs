//! The weights of a product in f32, in the order of the sums that it is made of.

use crate::exec::Winograd;
use lowbit_kernels::conv_f32::winograd::WinogradWeights;
use lowbit_kernels::conv_f32::{self, PackedWeights};
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa};

pub(super) enum Kernel {
    /// A sum of all taps for each result.
    Direct(PackedWeights),
    /// In tiles of 2×2 results, with fewer products.
    Tiles(Winograd, WinogradWeights),
}

impl Kernel {
    /// Of zeros, for images that lie so many elements behind one another, of input and output.
    pub(super) fn new(isa: Isa, geometry: &ConvGeometry, image_len: [usize; 2]) -> Self {
        let shape = geometry.weight_shape();
        match Winograd::of_images(*geometry, image_len) {
            Some(winograd) => Self::Tiles(winograd, WinogradWeights::zeroed(isa, shape)),
            None => Self::Direct(PackedWeights::pack(isa, &vec![0.0; shape.len()], shape)),
        }
    }

    /// Brings weights (OHWI) into this order.
    pub(super) fn repack(&mut self, weights: &[f32]) {
        match self {
            Self::Direct(packed) => packed.repack(weights),
            Self::Tiles(_, packed) => packed.repack(weights),
        }
    }

    /// The same for the gradient of the input.
    pub(super) fn repack_backward(&mut self, weights: &[f32]) {
        match self {
            Self::Direct(packed) => packed.repack_backward(weights),
            Self::Tiles(_, packed) => packed.repack_backward(weights),
        }
    }

    /// One image, whose first and last `border` rows and columns hold zeros.
    pub(super) fn run(
        &self,
        geometry: &ConvGeometry,
        border: usize,
        view: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        match self {
            Self::Direct(packed) => {
                let (rows, epilogue) = (0..geometry.out_h, epilogue(bias));
                conv_f32::conv_haloed(packed, geometry, rows, border, view, &epilogue, out);
            }
            Self::Tiles(winograd, packed) => {
                let map = [0..geometry.out_h, 0..geometry.out_w];
                winograd.run(packed, 1, map, view, &epilogue(bias), out);
            }
        }
    }

    /// Several images, whose borders hold zeros.
    pub(super) fn run_images(
        &self,
        geometry: &ImagesGeometry,
        view: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        match self {
            Self::Direct(packed) => {
                conv_f32::conv_images(packed, geometry, view, &epilogue(bias), out);
            }
            Self::Tiles(winograd, packed) => {
                let map = [0..geometry.image.out_h, 0..geometry.image.out_w];
                winograd.run(packed, geometry.images, map, view, &epilogue(bias), out);
            }
        }
    }
}

fn epilogue(bias: Option<&[f32]>) -> conv_f32::Epilogue<'_> {
    conv_f32::Epilogue {
        bias,
        ..Default::default()
    }
}
