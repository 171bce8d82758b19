//! Networks that nobody drew: blocks of random kinds and sizes, in f32 and in integers. However an image's steps are run (by
//! rows, by chunks of images, over threads), the bits are those of one image on one thread.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::graph::{Conv, GraphBuilder, MaxPool, Op, Unary};
use lowbit::{Graph, Quantizer, Shape, Weights};
use lowbit_kernels::random::{self, RngCore};

const NETWORKS: u64 = 24;
const IMAGES: usize = 6;

/// A network in the making: what the next block reads.
struct Drawn<R> {
    graph: GraphBuilder,
    last: usize,
    shape: [usize; 3],
    nodes: usize,
    rng: R,
}

impl<R: RngCore> Drawn<R> {
    /// A number below `sides`.
    fn dice(&mut self, sides: u32) -> usize {
        random::below(&mut self.rng, sides) as usize
    }

    fn add(&mut self, op: Op, inputs: &[usize]) {
        self.nodes += 1;
        let name = format!("node{}", self.nodes);
        self.last = self.graph.add(&name, op, inputs);
    }

    fn activation(&mut self) {
        let op = match self.dice(5) {
            0 => Op::Relu,
            1 => Op::Unary(Unary::HardSwish),
            2 => Op::Unary(Unary::Clip { min: 0.0, max: 6.0 }),
            3 => Op::Sigmoid,
            _ => return,
        };
        self.add(op, &[self.last]);
    }

    /// A convolution that keeps the size, or halves it.
    fn conv(&mut self, out_channels: usize, kernel: usize, groups: usize, stride: usize) {
        let [h, w, _] = self.shape;
        let conv = Conv {
            stride: [stride; 2],
            groups,
            ..Conv::same(out_channels, kernel)
        };
        self.add(Op::Conv(conv), &[self.last]);
        self.shape = [h.div_ceil(stride), w.div_ceil(stride), out_channels];
        self.activation();
    }

    /// An expansion, a filter for each of its channels, a projection; with a residual, sometimes.
    fn bottleneck(&mut self) {
        let (before, of) = (self.last, self.shape);
        let wide = of[2] * (1 + self.dice(6));
        if self.dice(3) == 0 {
            self.conv(of[2], 3, of[2], 1);
        }
        self.conv(wide, 1, 1, 1);
        let stride = 1 + self.dice(4) / 3;
        let kernel = 3 + 2 * self.dice(2);
        self.conv(wide, kernel, wide, stride);
        if self.dice(4) == 0 {
            let map = self.last;
            self.add(Op::GlobalAvgPool, &[map]);
            self.add(Op::Sigmoid, &[self.last]);
            self.add(Op::Mul, &[map, self.last]);
        }
        self.conv(of[2], 1, 1, 1);
        if self.shape == of && self.dice(2) == 0 {
            self.add(Op::Add, &[before, self.last]);
        }
    }

    fn block(&mut self) {
        let c = self.shape[2];
        match self.dice(8) {
            0 => {
                let (channels, stride) = (8 * (1 + self.dice(8)), 1 + self.dice(2));
                self.conv(channels, 3, 1, stride);
            }
            1 => {
                let pool = MaxPool {
                    kernel: [2; 2],
                    stride: [2; 2],
                    padding: [0; 4],
                };
                if self.shape[0].min(self.shape[1]) >= 2 {
                    self.add(Op::MaxPool(pool), &[self.last]);
                    self.shape = [self.shape[0] / 2, self.shape[1] / 2, c];
                }
            }
            2 | 3 => {
                let (groups, stride) = (c / [8, 4, 2][self.dice(3)], 1 + self.dice(2));
                self.conv(c, 3, groups, stride);
            }
            4 => {
                let [before, of] = [self.last, c];
                let channels = 8 * (1 + self.dice(3));
                self.conv(channels, 1, 1, 1);
                self.add(Op::Concat, &[before, self.last]);
                self.shape[2] += of;
            }
            _ => self.bottleneck(),
        }
    }
}

fn network(number: u64) -> Graph {
    let mut rng = random::stream(number, "network", 0);
    let [side, more] = [6, 5].map(|sides| random::below(&mut rng, sides) as usize);
    let side = [9, 17, 32, 48, 64, 96][side];
    let input = [side, side + more, 3];
    let classes = ["a", "b", "c"].map(String::from);
    let mut drawn = Drawn {
        graph: GraphBuilder::new("network", Shape::new(side, input[1], 3), &classes),
        last: 0,
        shape: input,
        nodes: 0,
        rng,
    };
    let stride = 1 + drawn.dice(2);
    drawn.conv(8 * (1 + stride), 3, 1, stride);
    for _ in 0..2 + drawn.dice(5) {
        drawn.block();
    }
    drawn.add(Op::GlobalAvgPool, &[drawn.last]);
    drawn.add(Op::linear(3), &[drawn.last]);
    drawn.graph.finish().unwrap()
}

fn logits(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * 3];
    model.run(images, &mut logits).unwrap();
    logits
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

fn check(number: u64, kind: &str, model: &dyn Model, images: &[u8], image_len: usize) {
    let pools = [1, 2, 3, 5, 9].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap()
    });
    let expected: Vec<f32> = images
        .chunks(image_len)
        .flat_map(|image| pools[0].install(|| logits(model, image)))
        .collect();
    assert!(
        expected.iter().any(|&x| x != expected[0]),
        "network {number}, {kind}"
    );
    for pool in &pools {
        for count in [1, 2, IMAGES] {
            let found = pool.install(|| logits(model, &images[..count * image_len]));
            let threads = pool.current_num_threads();
            let of = format!("network {number}, {kind}, {count} images on {threads} threads");
            assert_eq!(bits(&found), bits(&expected[..3 * count]), "{of}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_how_a_networks_steps_are_run() {
    for number in 0..NETWORKS {
        let graph = network(number);
        let weights = Weights::init(&graph, number);
        let image_len = graph.input().len();
        let mut rng = random::stream(number, "images", 0);
        let images: Vec<u8> = (0..IMAGES * image_len)
            .map(|_| random::below(&mut rng, 256) as u8)
            .collect();
        let float = FloatModel::new(&graph, &weights).unwrap();
        check(number, "f32", &float, &images, image_len);
        let quantized = Quantizer::new(&graph, &weights).calibrate(&images).unwrap();
        let integers = IntegerModel::new(&quantized).unwrap();
        check(number, "u8", &integers, &images, image_len);
    }
}
