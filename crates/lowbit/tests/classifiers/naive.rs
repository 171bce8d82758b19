//! A graph computed node by node in f64, as plainly as can be: no fusion, no layout, no halo.

use lowbit::graph::{Attention, Conv, Node, Op, Unary};
use lowbit::{Graph, Shape, Weights};

/// Logits of whole images.
pub fn run(graph: &Graph, weights: &Weights, images: &[u8]) -> Vec<f64> {
    let images = images.chunks_exact(graph.input().len());
    images
        .flat_map(|image| one(graph, weights, image))
        .collect()
}

fn one(graph: &Graph, weights: &Weights, image: &[u8]) -> Vec<f64> {
    let pixel = |&q: &u8| (f64::from(q) / 255.0 - 0.5) / 0.5;
    let mut values: Vec<Vec<f64>> = vec![image.iter().map(pixel).collect()];
    for (id, node) in graph.nodes().iter().enumerate().skip(1) {
        let inputs: Vec<(&[f64], Shape)> = node
            .inputs
            .iter()
            .map(|&from| (&values[from][..], graph.shape(from)))
            .collect();
        let value = compute(node, weights, &inputs, graph.shape(id));
        assert_eq!(value.len(), graph.shape(id).len());
        values.push(value);
    }
    values.pop().unwrap()
}

/// The taps of a window that lie in the image: row and column, and which tap.
fn window(
    size: [usize; 2],
    (kernel, stride, dilation): ([usize; 2], [usize; 2], [usize; 2]),
    [top, left]: [usize; 2],
    [y, x]: [usize; 2],
) -> Vec<(usize, usize, usize)> {
    let mut taps = Vec::new();
    for ky in 0..kernel[0] {
        for kx in 0..kernel[1] {
            let row = (y * stride[0] + ky * dilation[0]) as isize - top as isize;
            let column = (x * stride[1] + kx * dilation[1]) as isize - left as isize;
            let inside = |at: isize, size: usize| at >= 0 && at < size as isize;
            if inside(row, size[0]) && inside(column, size[1]) {
                taps.push((row as usize, column as usize, ky * kernel[1] + kx));
            }
        }
    }
    taps
}

fn compute(node: &Node, weights: &Weights, inputs: &[(&[f64], Shape)], out: Shape) -> Vec<f64> {
    let (x, shape) = inputs[0];
    let (w, c) = (shape.w(), shape.c());
    let of = |suffix: &str| -> Vec<f64> {
        let data = weights.slice(&format!("{}.{suffix}", node.name));
        data.iter().map(|&x| f64::from(x)).collect()
    };
    let mut result = Vec::with_capacity(out.len());
    match node.op {
        Op::Conv(conv) => {
            let Conv {
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias,
                ..
            } = conv;
            let (kernel_weights, per_group) = (of("weight"), c / groups);
            let bias = bias.then(|| of("bias"));
            for at in 0..out.h() * out.w() {
                let at = [at / out.w(), at % out.w()];
                let size = [shape.h(), w];
                let corner = [padding[0], padding[1]];
                let taps = window(size, (kernel, stride, dilation), corner, at);
                for o in 0..out.c() {
                    let group = o / (out.c() / groups);
                    let mut sum = bias.as_ref().map_or(0.0, |bias| bias[o]);
                    for &(row, column, tap) in &taps {
                        for i in 0..per_group {
                            let value = x[(row * w + column) * c + group * per_group + i];
                            let at = (o * kernel[0] * kernel[1] + tap) * per_group + i;
                            sum += value * kernel_weights[at];
                        }
                    }
                    result.push(sum);
                }
            }
        }
        Op::Linear(_) => {
            let (matrix, bias) = (of("weight"), of("bias"));
            for vector in x.chunks_exact(c) {
                for (row, bias) in matrix.chunks_exact(c).zip(&bias) {
                    let products = row.iter().zip(vector).map(|(w, x)| w * x);
                    result.push(products.sum::<f64>() + bias);
                }
            }
        }
        Op::BatchNorm(norm) => {
            let (gamma, beta) = (of("weight"), of("bias"));
            let (mean, var) = (of("running_mean"), of("running_var"));
            for (i, x) in x.iter().enumerate() {
                let c = i % c;
                let sigma = (var[c] + f64::from(norm.eps)).sqrt();
                result.push((x - mean[c]) / sigma * gamma[c] + beta[c]);
            }
        }
        Op::MaxPool(pool) => {
            for at in 0..out.h() * out.w() {
                let at = [at / out.w(), at % out.w()];
                let corner = [pool.padding[0], pool.padding[1]];
                let size = [shape.h(), w];
                let taps = window(size, (pool.kernel, pool.stride, [1, 1]), corner, at);
                for channel in 0..c {
                    let values = taps.iter().map(|tap| x[(tap.0 * w + tap.1) * c + channel]);
                    result.push(values.fold(f64::NEG_INFINITY, f64::max));
                }
            }
        }
        Op::AvgPool(pool) => {
            // An image with a border of zeros that count, in a border of nothing.
            let [top, left, bottom, right] = pool.counted_padding;
            let size = [shape.h() + top + bottom, w + left + right];
            let corner = [pool.padding[0] - top, pool.padding[1] - left];
            for at in 0..out.h() * out.w() {
                let at = [at / out.w(), at % out.w()];
                let taps = window(size, (pool.kernel, pool.stride, [1, 1]), corner, at);
                for channel in 0..c {
                    let value = |tap: &(usize, usize, usize)| {
                        let inside = (top..top + shape.h()).contains(&tap.0)
                            && (left..left + w).contains(&tap.1);
                        match inside {
                            true => x[((tap.0 - top) * w + tap.1 - left) * c + channel],
                            false => 0.0,
                        }
                    };
                    result.push(taps.iter().map(value).sum::<f64>() / taps.len() as f64);
                }
            }
        }
        Op::GlobalAvgPool => {
            for channel in 0..c {
                let values = x.iter().skip(channel).step_by(c);
                result.push(values.sum::<f64>() / (shape.len() / c) as f64);
            }
        }
        Op::Flatten | Op::Reshape(_) => result.extend_from_slice(x),
        Op::Prefix(prefix) => {
            result.resize(prefix.tokens * c, 0.0);
            result.extend_from_slice(x);
        }
        Op::Transpose => {
            for channel in 0..c {
                result.extend(x.iter().skip(channel).step_by(c));
            }
        }
        Op::LayerNorm(norm) => {
            for pixel in x.chunks_exact(c) {
                let mean = pixel.iter().sum::<f64>() / c as f64;
                let squares = pixel.iter().map(|x| (x - mean).powi(2));
                let deviation = (squares.sum::<f64>() / c as f64 + f64::from(norm.eps)).sqrt();
                result.extend(pixel.iter().map(|x| (x - mean) / deviation));
            }
        }
        Op::Attention(attention) => result = attend(attention, inputs, out),
        Op::Add | Op::Mul => {
            let other = inputs[1].0;
            for (i, x) in x.iter().enumerate() {
                let other = other[i % other.len()];
                result.push(if node.op == Op::Add {
                    x + other
                } else {
                    x * other
                });
            }
        }
        Op::Concat => {
            for pixel in 0..shape.len() / c {
                for (x, shape) in inputs {
                    result.extend_from_slice(&x[pixel * shape.c()..][..shape.c()]);
                }
            }
        }
        Op::ChannelShuffle(shuffle) => {
            let per_group = c / shuffle.groups;
            for pixel in x.chunks_exact(c) {
                for within in 0..per_group {
                    for group in 0..shuffle.groups {
                        result.push(pixel[group * per_group + within]);
                    }
                }
            }
        }
        Op::Slice(slice) => {
            for pixel in x.chunks_exact(c) {
                result.extend_from_slice(&pixel[slice.first..][..slice.channels]);
            }
        }
        op => result.extend(x.iter().map(|&x| unary(op, x))),
    }
    result
}

/// Every query against every key that its pixel may attend.
fn attend(attention: Attention, inputs: &[(&[f64], Shape)], out: Shape) -> Vec<f64> {
    let [(q, of_q), (k, of_k), (v, of_v)] = inputs else {
        panic!("three inputs")
    };
    let (d, e) = (of_q.c() / attention.heads, of_v.c() / attention.heads);
    let place = |pixel: usize, shape: &Shape| {
        let (y, x) = (pixel / shape.w(), pixel % shape.w());
        [y % attention.patch[0], x % attention.patch[1]]
    };
    let mut result = vec![0.0; out.len()];
    for query in 0..of_q.h() * of_q.w() {
        let keys: Vec<usize> = (0..of_k.h() * of_k.w())
            .filter(|&key| place(key, of_k) == place(query, of_q))
            .collect();
        for head in 0..attention.heads {
            let weight = |&key: &usize| {
                let q = &q[query * of_q.c() + head * d..][..d];
                let k = &k[key * of_k.c() + head * d..][..d];
                let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                (product * f64::from(attention.scale)).exp()
            };
            let weights: Vec<f64> = keys.iter().map(weight).collect();
            let total: f64 = weights.iter().sum();
            for channel in head * e..(head + 1) * e {
                let values = keys.iter().map(|key| v[key * of_v.c() + channel]);
                let sum: f64 = weights.iter().zip(values).map(|(w, v)| w * v).sum();
                result[query * out.c() + channel] = sum / total;
            }
        }
    }
    result
}

/// Functions of one element, each by its formula.
pub fn unary(op: Op, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match op {
        Op::Relu => x.max(0.0),
        Op::Sigmoid => sigmoid(x),
        Op::Unary(Unary::Clip { min, max }) => x.clamp(min.into(), max.into()),
        Op::Unary(Unary::HardSigmoid { alpha, beta }) => {
            (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
        }
        Op::Unary(Unary::HardSwish) => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Op::Unary(Unary::Silu) => x * sigmoid(x),
        Op::Unary(Unary::Tanh) => x.tanh(),
        Op::Unary(Unary::LeakyRelu { slope }) => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Op::Unary(Unary::Elu { alpha }) => x.max(0.0) + f64::from(alpha) * x.min(0.0).exp_m1(),
        Op::Unary(Unary::Gelu { tanh: false }) => {
            // ½·(1 + erf(x/√2)) by the midpoint rule over the density from −12 on.
            let steps = 24_000;
            let width = (x + 12.0) / f64::from(steps);
            let density = |step: i32| {
                let at = -12.0 + (f64::from(step) + 0.5) * width;
                (-0.5 * at * at).exp()
            };
            let area: f64 = (0..steps).map(density).sum();
            x * area * width / (2.0 * std::f64::consts::PI).sqrt()
        }
        other => panic!("{other:?} has no formula here"),
    }
}
