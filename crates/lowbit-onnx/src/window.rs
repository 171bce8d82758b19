//! Kernels, strides and pads of convolutions and pools.

use crate::error::Fault;
use crate::model::Node;

/// The largest kernel, stride, pad or dilation that is looked at.
const MAX: i64 = 1 << 12;

/// How a window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Above, left, below, right.
    pub(crate) pads: [usize; 4],
    pub(crate) dilation: [usize; 2],
    pub(crate) ceil: bool,
}

impl Window {
    /// That of a node over an image of `size` pixels; `kernel` is the size of its weights, where it has any.
    pub(crate) fn of(
        node: &Node,
        size: [usize; 2],
        kernel: Option<[usize; 2]>,
    ) -> Result<Self, Fault> {
        let pair = |key: &str| -> Result<Option<[usize; 2]>, Fault> {
            match node.ints(key)? {
                None => Ok(None),
                Some(&[a, b]) if (1..=MAX).contains(&a) && (1..=MAX).contains(&b) => {
                    Ok(Some([a as usize, b as usize]))
                }
                Some(values) => Err(node.wrong(format!("its {key} are {values:?}"))),
            }
        };
        let stated = pair("kernel_shape")?;
        let kernel = match (kernel, stated) {
            (Some(kernel), Some(stated)) if kernel != stated => {
                return Err(node.wrong(format!(
                    "its kernel_shape is {stated:?}, its weights have {kernel:?}"
                )));
            }
            (Some(kernel), _) | (None, Some(kernel)) => kernel,
            (None, None) => return Err(node.wrong("it lacks its kernel_shape")),
        };
        let mut window = Self {
            kernel,
            stride: pair("strides")?.unwrap_or([1; 2]),
            dilation: pair("dilations")?.unwrap_or([1; 2]),
            pads: [0; 4],
            ceil: node.int_or("ceil_mode", 0)? != 0,
        };
        if kernel.contains(&0) || kernel.iter().any(|&extent| extent > MAX as usize) {
            return Err(node.wrong(format!("its kernel is {kernel:?}")));
        }
        match node.text("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" => match node.ints("pads")? {
                None => {}
                Some(&[top, left, bottom, right])
                    if [top, left, bottom, right]
                        .iter()
                        .all(|pad| (0..=MAX).contains(pad)) =>
                {
                    window.pads = [top, left, bottom, right].map(|pad| pad as usize);
                }
                Some(pads) => return Err(node.wrong(format!("its pads are {pads:?}"))),
            },
            "VALID" => {}
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..2 {
                    let out = size[axis].div_ceil(window.stride[axis]);
                    let needed = (out.max(1) - 1) * window.stride[axis] + window.span(axis);
                    let total = needed.saturating_sub(size[axis]);
                    let small = total / 2;
                    let (before, after) = match same {
                        "SAME_UPPER" => (small, total - small),
                        _ => (total - small, small),
                    };
                    (window.pads[axis], window.pads[axis + 2]) = (before, after);
                }
            }
            other => return Err(node.wrong(format!("its auto_pad is {other}"))),
        }
        Ok(window)
    }

    /// Rows or columns that the kernel spans.
    fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Rows and columns of the result over an image of `size` pixels.
    pub(crate) fn extents(&self, size: [usize; 2]) -> Result<[usize; 2], String> {
        let mut extents = [0; 2];
        for axis in 0..2 {
            let (stride, before) = (self.stride[axis], self.pads[axis]);
            let padded = size[axis] + before + self.pads[axis + 2];
            let Some(room) = padded.checked_sub(self.span(axis)) else {
                let [h, w] = size;
                return Err(format!(
                    "its kernel does not fit into {h}×{w}: use larger images"
                ));
            };
            extents[axis] = if self.ceil {
                let steps = room.div_ceil(stride);
                // A window that would begin beyond the image and its upper padding is left out.
                steps + 1 - usize::from(steps * stride >= size[axis] + before)
            } else {
                room / stride + 1
            };
        }
        Ok(extents)
    }

    /// The pads with what `ceil_mode` adds below and to the right made explicit; negative where rows stay unread.
    pub(crate) fn with_ceil(&self, size: [usize; 2]) -> Result<Self, String> {
        let extents = self.extents(size)?;
        let mut window = Self {
            ceil: false,
            ..*self
        };
        if self.ceil {
            for axis in 0..2 {
                let needed = (extents[axis] - 1) * self.stride[axis] + self.span(axis);
                let least = needed.saturating_sub(size[axis] + self.pads[axis]);
                window.pads[axis + 2] = window.pads[axis + 2].max(least);
            }
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Attribute;

    fn pool(attributes: &[(&str, &[i64])]) -> Node {
        attributes.iter().fold(
            Node::new("pool", "MaxPool", &["x"], "y"),
            |node, (key, values)| node.with(key, Attribute::Ints(values.to_vec())),
        )
    }

    #[test]
    fn same_padding_is_uneven_below_or_above() {
        let node = pool(&[("kernel_shape", &[3, 3]), ("strides", &[2, 2])]);
        let pads = |mode: &str| {
            let node = node.clone().with("auto_pad", Attribute::Text(mode.into()));
            let window = Window::of(&node, [8, 9], None).unwrap();
            assert_eq!(window.extents([8, 9]).unwrap(), [4, 5]);
            window.pads
        };
        assert_eq!(pads("SAME_UPPER"), [0, 1, 1, 1]);
        assert_eq!(pads("SAME_LOWER"), [1, 1, 0, 1]);
    }

    #[test]
    fn a_ceiling_adds_a_window_that_begins_within_the_image() {
        let node = pool(&[("kernel_shape", &[3, 3]), ("strides", &[2, 2])])
            .with("ceil_mode", Attribute::Int(1));
        let window = Window::of(&node, [4, 5], None).unwrap();
        assert_eq!(window.extents([4, 5]).unwrap(), [2, 2]);
        assert_eq!(window.with_ceil([4, 5]).unwrap().pads, [0, 0, 1, 0]);
        // A window of one pixel at stride 2 beyond three pixels would see nothing.
        let node = pool(&[("kernel_shape", &[1, 1]), ("strides", &[2, 2])])
            .with("ceil_mode", Attribute::Int(1));
        let window = Window::of(&node, [4, 4], None).unwrap();
        assert_eq!(window.extents([4, 4]).unwrap(), [2, 2]);
    }
}
