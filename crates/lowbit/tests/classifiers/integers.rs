//! A quantized model computed by the definition of docs/format.md, element by element.

use super::naive::unary;
use lowbit::Shape;
use lowbit::WeightBits;
use lowbit::graph::{Conv, Op, Step};
use lowbit::quant::{ActivationParams, Arithmetic, QuantizedLayer, QuantizedModel};

/// Integers, their shape, and what they stand for.
#[derive(Clone)]
struct Value {
    q: Vec<u8>,
    shape: Shape,
    params: ActivationParams,
    /// By how many steps the zero point lies above the real zero; of pixels alone.
    residual: f64,
}

/// Logits of whole images of a statically quantized model.
pub fn run(model: &QuantizedModel, images: &[u8]) -> Vec<f32> {
    let images = images.chunks_exact(model.graph.input().len());
    images.flat_map(|image| one(model, image)).collect()
}

fn one(model: &QuantizedModel, image: &[u8]) -> Vec<f32> {
    let program = model.graph.program().unwrap();
    // Pixels stand for themselves: q·s − 1, whose zero lies at 1/s, a little below 127.5 as s is an f32.
    let scale = 1.0f32 / 127.5;
    let zero = 1.0 / f64::from(scale);
    let zero_point = zero.round_ties_even() as u8;
    let mut values = vec![Value {
        q: image.to_vec(),
        shape: model.graph.input(),
        params: ActivationParams { scale, zero_point },
        residual: f64::from(zero_point) - zero,
    }];
    for (index, step) in program.steps().iter().enumerate() {
        // A reshape moves nothing: the step sees other extents.
        let seen = step.inputs.iter().zip(&step.in_shapes);
        let inputs: Vec<Value> = seen
            .map(|(&from, &shape)| Value {
                shape,
                ..values[from].clone()
            })
            .collect();
        let inputs: Vec<&Value> = inputs.iter().collect();
        let layer = model.layers[index].as_ref();
        let Some(params) = model.activations[index + 1] else {
            let whole = model.arithmetic == Arithmetic::IntegerBias;
            return product(
                step,
                inputs[0],
                layer.unwrap(),
                (1.0, whole),
                |acc, m, b| {
                    let real = (acc as f32).mul_add(m, b);
                    if step.epilogue.relu {
                        real.max(0.0)
                    } else {
                        real
                    }
                },
            );
        };
        let low = if step.epilogue.relu {
            params.zero_point
        } else {
            0
        };
        let ceiling = |ceiling: f32| {
            let level = (f64::from(ceiling) / f64::from(params.scale)).round_ties_even();
            (level + f64::from(params.zero_point)).clamp(f64::from(low), 255.0) as u8
        };
        let high = step.epilogue.ceiling.map_or(255, ceiling);
        let q = integers(
            step,
            &inputs,
            layer,
            (params, model.arithmetic),
            [low, high],
        );
        assert_eq!(q.len(), step.out_shape.len(), "{}", step.name);
        values.push(Value {
            q,
            shape: step.out_shape,
            params,
            residual: 0.0,
        });
    }
    unreachable!("the last step gives the logits")
}

fn integers(
    step: &Step,
    inputs: &[&Value],
    layer: Option<&QuantizedLayer>,
    (to, arithmetic): (ActivationParams, Arithmetic),
    [low, high]: [u8; 2],
) -> Vec<u8> {
    let [low, high] = [low, high].map(f32::from);
    let zero = f32::from(to.zero_point);
    let level = |real: f32| (real.round_ties_even() + zero).clamp(low, high) as u8;
    let x = inputs[0];
    let ratio = |from: &Value| (f64::from(from.params.scale) / f64::from(to.scale)) as f32;
    let centered = |from: &Value, q: u8| f32::from(q) - f32::from(from.params.zero_point);
    let whole = arithmetic == Arithmetic::IntegerBias;
    let moved = |from: &Value, q: u8| match whole {
        true => level(centered(from, q) * from.params.scale / to.scale),
        false => level(centered(from, q) * ratio(from)),
    };
    let mean_multiplier = |from: &Value, count: usize| match whole {
        true => from.params.scale / (to.scale * count as f32),
        false => (f64::from(ratio(from)) / count as f64) as f32,
    };
    let pixels = |value: &Value| value.q.chunks_exact(value.shape.c()).len();
    match step.op {
        Op::Conv(_) | Op::Linear(_) => {
            product(step, x, layer.unwrap(), (to.scale, whole), |acc, m, b| {
                level((acc as f32).mul_add(m, b))
            })
        }
        Op::Add => {
            let y = inputs[1];
            let pair = |(i, &a): (usize, &u8)| {
                let b = y.q[i % y.q.len()];
                if whole {
                    // All zero points in one number, as ONNX Runtime's x86 code has it.
                    let zero_b = ratio(y) * f32::from(y.params.zero_point);
                    let zeros = f32::from(x.params.zero_point).mul_add(ratio(x), zero_b);
                    let second = f32::from(b).mul_add(ratio(y), zero - zeros);
                    let sum = f32::from(a).mul_add(ratio(x), second);
                    return sum.round_ties_even().clamp(low, high) as u8;
                }
                let second = centered(y, b) * ratio(y);
                level(centered(x, a).mul_add(ratio(x), second))
            };
            x.q.iter().enumerate().map(pair).collect()
        }
        Op::Mul => {
            let y = inputs[1];
            let scales = f64::from(x.params.scale) * f64::from(y.params.scale);
            let multiplier = match whole {
                true => x.params.scale * y.params.scale / to.scale,
                false => (scales / f64::from(to.scale)) as f32,
            };
            let pair = |(i, &a): (usize, &u8)| {
                let b = y.q[i % y.q.len()];
                level(centered(x, a) * centered(y, b) * multiplier)
            };
            x.q.iter().enumerate().map(pair).collect()
        }
        Op::Concat => {
            let mut q = Vec::new();
            for pixel in 0..pixels(x) {
                for input in inputs {
                    let c = input.shape.c();
                    q.extend(input.q[pixel * c..][..c].iter().map(|&q| moved(input, q)));
                }
            }
            q
        }
        Op::ChannelShuffle(shuffle) => {
            let c = x.shape.c();
            let source = |i: usize| {
                let (pixel, k) = (i / c, i % c);
                let (within, group) = (k / shuffle.groups, k % shuffle.groups);
                x.q[pixel * c + group * (c / shuffle.groups) + within]
            };
            (0..x.q.len()).map(|i| moved(x, source(i))).collect()
        }
        Op::Slice(slice) => {
            let pixels = x.q.chunks_exact(x.shape.c());
            let kept = pixels.flat_map(|pixel| &pixel[slice.first..][..slice.channels]);
            kept.map(|&q| moved(x, q)).collect()
        }
        Op::Reshape(_) => x.q.iter().map(|&q| moved(x, q)).collect(),
        Op::Prefix(prefix) => {
            let mut q = vec![to.zero_point; prefix.tokens * x.shape.c()];
            q.extend(x.q.iter().map(|&q| moved(x, q)));
            q
        }
        Op::Transpose => {
            let c = x.shape.c();
            let channels = (0..c).flat_map(|channel| x.q.iter().skip(channel).step_by(c));
            channels.map(|&q| moved(x, q)).collect()
        }
        Op::GlobalAvgPool => {
            let (c, count) = (x.shape.c(), pixels(x));
            let multiplier = mean_multiplier(x, count);
            let mean = |channel: usize| {
                let codes = x.q.iter().skip(channel).step_by(c);
                let sum: i32 = codes
                    .map(|&q| i32::from(q) - i32::from(x.params.zero_point))
                    .sum();
                level(sum as f32 * multiplier)
            };
            (0..c).map(mean).collect()
        }
        Op::MaxPool(pool) => {
            let settings = (pool.kernel, pool.stride, pool.padding);
            windows(x, settings, step.out_shape, |taps, _| {
                moved(x, taps.iter().copied().max().unwrap())
            })
        }
        Op::AvgPool(pool) => {
            let settings = (pool.kernel, pool.stride, pool.padding);
            windows(x, settings, step.out_shape, |taps, [y, column]| {
                let counted = |axis: usize, at: usize, size: usize| {
                    let first = pool.padding[axis] - pool.counted_padding[axis];
                    let last = pool.padding[axis] + size + pool.counted_padding[axis + 2];
                    let start = at * pool.stride[axis];
                    (start..start + pool.kernel[axis])
                        .filter(|&at| at >= first && at < last)
                        .count()
                };
                let count = counted(0, y, x.shape.h()) * counted(1, column, x.shape.w());
                if whole {
                    let reals = taps.iter().map(|&q| centered(x, q) * x.params.scale);
                    let mean = reals.fold(0.0, |sum, real| sum + real) / count as f32;
                    let level = (mean / to.scale + zero).round_ties_even();
                    return level.clamp(low, high) as u8;
                }
                let multiplier = mean_multiplier(x, count);
                let zero = i32::from(x.params.zero_point);
                let sum: i32 = taps.iter().map(|&q| i32::from(q) - zero).sum();
                level(sum as f32 * multiplier)
            })
        }
        Op::Relu => {
            x.q.iter()
                .map(|&q| moved(x, q).max(to.zero_point))
                .collect()
        }
        op => {
            let function = |&q: &u8| {
                let zero = f64::from(x.params.zero_point);
                let real = (f64::from(q) - zero) * f64::from(x.params.scale);
                let level = (unary(op, real) / f64::from(to.scale)).round_ties_even();
                let level = level + f64::from(to.zero_point);
                level.clamp(f64::from(low), f64::from(high)) as u8
            };
            x.q.iter().map(function).collect()
        }
    }
}

/// `each` gets the codes of each window and channel, and where the window stands.
fn windows(
    x: &Value,
    (kernel, stride, padding): ([usize; 2], [usize; 2], [usize; 4]),
    out: Shape,
    each: impl Fn(&[u8], [usize; 2]) -> u8,
) -> Vec<u8> {
    let (h, w, c) = (x.shape.h(), x.shape.w(), x.shape.c());
    let mut result = Vec::new();
    for at in 0..out.h() * out.w() {
        let at = [at / out.w(), at % out.w()];
        for channel in 0..c {
            let mut taps = Vec::new();
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let row = (at[0] * stride[0] + ky).wrapping_sub(padding[0]);
                    let column = (at[1] * stride[1] + kx).wrapping_sub(padding[1]);
                    if row < h && column < w {
                        taps.push(x.q[(row * w + column) * c + channel]);
                    }
                }
            }
            result.push(each(&taps, at));
        }
    }
    result
}

/// Sums and constants of every output of a product, for `store(acc, multiplier, bias)`.
fn product<T>(
    step: &Step,
    x: &Value,
    layer: &QuantizedLayer,
    (s_y, whole): (f32, bool),
    store: impl Fn(i64, f32, f32) -> T,
) -> Vec<T> {
    let zero = i64::from(x.params.zero_point);
    let s_x = f64::from(x.params.scale);
    let out_channels = step.main_shape.c();
    let fan_in = layer.weights.len() / out_channels;
    let constants = |o: usize| {
        let sum: i64 = layer.weights[o * fan_in..][..fan_in]
            .iter()
            .map(|&w| i64::from(w))
            .sum();
        let factor = s_x * f64::from(layer.scale[o]);
        if whole && layer.bits == WeightBits::B8 {
            let steps = f64::from(layer.bias[o]) / factor + x.residual * sum as f64;
            let multiplier = x.params.scale * layer.scale[o] / s_y;
            return (multiplier, 0.0, steps.round_ties_even() as i64);
        }
        let bias = f64::from(layer.bias[o]) + factor * x.residual * sum as f64;
        let s_y = f64::from(s_y);
        ((factor / s_y) as f32, (bias / s_y) as f32, 0)
    };
    let mut result = Vec::new();
    let Op::Conv(conv) = step.op else {
        for o in 0..out_channels {
            let weights = &layer.weights[o * fan_in..][..fan_in];
            let products = weights.iter().zip(&x.q);
            let acc = products.map(|(&w, &q)| i64::from(w) * (i64::from(q) - zero));
            let (multiplier, bias, steps) = constants(o);
            result.push(store(acc.sum::<i64>() + steps, multiplier, bias));
        }
        return result;
    };
    let Conv {
        kernel,
        stride,
        padding,
        dilation,
        groups,
        ..
    } = conv;
    let (h, w, c) = (x.shape.h(), x.shape.w(), x.shape.c());
    let per_group = c / groups;
    let out = step.main_shape;
    for at in 0..out.h() * out.w() {
        let (y, column) = (at / out.w(), at % out.w());
        for o in 0..out_channels {
            let group = o / (out_channels / groups);
            let mut acc = 0i64;
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let row = (y * stride[0] + ky * dilation[0]).wrapping_sub(padding[0]);
                    let column = (column * stride[1] + kx * dilation[1]).wrapping_sub(padding[1]);
                    for i in 0..per_group {
                        // A border holds the zero point, which stands for zero.
                        let q = match row < h && column < w {
                            true => i64::from(x.q[(row * w + column) * c + group * per_group + i]),
                            false => zero,
                        };
                        let tap = (ky * kernel[1] + kx) * per_group + i;
                        acc += i64::from(layer.weights[o * fan_in + tap]) * (q - zero);
                    }
                }
            }
            let (multiplier, bias, steps) = constants(o);
            result.push(store(acc + steps, multiplier, bias));
        }
    }
    result
}
