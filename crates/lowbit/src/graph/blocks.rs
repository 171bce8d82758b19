//! Fusing nodes into blocks: the one definition of "a layer" that training, quantization and inference share.
//!
//! A block is a convolution or linear layer with the batch-norm, ReLU and 2×2 max-pool that follow it, or an add with its
//! ReLU, or a pool that stands alone. Blocks read and write values; value 0 is the image.

use super::{Graph, GraphError, NodeId, Op, Shape};

/// Index of a value: 0 is the image, value `i + 1` is the result of block `i`.
pub type ValueId = usize;

/// The main operation of a block.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockKind {
    /// Convolution, `[out, kernel, kernel, in]` weights.
    Conv {
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Zeros around the input.
        padding: usize,
    },
    /// Linear layer over the flattened input.
    Linear,
    /// Sum of two values.
    Add,
    /// Mean over height and width.
    GlobalAvgPool,
    /// ReLU or max-pool that no other block could take up.
    Elementwise,
}

/// Batch-norm that belongs to a block.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormRef {
    /// Prefix of its parameters' names.
    pub name: String,
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
}

/// One fused layer: main operation, then batch-norm, ReLU and max-pool where present, in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Name of the main node; prefixes its weight and bias.
    pub name: String,
    /// The main operation.
    pub kind: BlockKind,
    /// Whether the main operation has a bias of its own.
    pub bias: bool,
    /// The batch-norm behind it.
    pub batch_norm: Option<BatchNormRef>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// 2 where a 2×2 max-pool follows, else 1.
    pub pool: usize,
    /// The values it reads.
    pub inputs: Vec<ValueId>,
    /// Shape of its (first) input.
    pub in_shape: Shape,
    /// Shape of the main operation's result, before pooling.
    pub conv_shape: Shape,
    /// Shape of its result.
    pub out_shape: Shape,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl Block {
    /// Whether it has a weight tensor.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        matches!(self.kind, BlockKind::Conv { .. } | BlockKind::Linear)
    }

    /// Zeros around its input, in pixels.
    #[must_use]
    pub fn padding(&self) -> usize {
        match self.kind {
            BlockKind::Conv { padding, .. } => padding,
            _ => 0,
        }
    }

    /// Shape of its weights as the kernels see them.
    #[must_use]
    pub fn weight_shape(&self) -> Option<lowbit_kernels::WeightShape> {
        use lowbit_kernels::WeightShape;
        match self.kind {
            BlockKind::Conv { kernel, .. } => Some(WeightShape {
                out_channels: self.conv_shape.c,
                kernel_h: kernel,
                kernel_w: kernel,
                in_channels: self.in_shape.c,
            }),
            BlockKind::Linear => Some(WeightShape::linear(self.out_shape.c, self.in_shape.len())),
            _ => None,
        }
    }
}

/// The blocks of a graph in execution order.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    input: Shape,
    list: Vec<Block>,
}

impl Blocks {
    /// Indices of the first and the last block with weights: the edges, which may have a width of their own.
    #[must_use]
    pub fn edges(&self) -> [usize; 2] {
        let with_weights = |(index, block): (usize, &Block)| block.has_weights().then_some(index);
        let mut indices = self.list.iter().enumerate().filter_map(with_weights);
        let first = indices.next().unwrap_or(0);
        [first, indices.next_back().unwrap_or(first)]
    }

    /// The blocks in execution order; block `i` writes value `i + 1`, the last one the logits.
    #[must_use]
    pub fn list(&self) -> &[Block] {
        &self.list
    }

    /// Shape of a value.
    #[must_use]
    pub fn value_shape(&self, value: ValueId) -> Shape {
        if value == 0 {
            self.input
        } else {
            self.list[value - 1].out_shape
        }
    }

    /// Number of values: the image and one per block.
    #[must_use]
    pub fn values(&self) -> usize {
        self.list.len() + 1
    }

    /// The widest zero padding that a reader of `value` wants around it, in pixels.
    #[must_use]
    pub fn halo(&self, value: ValueId) -> usize {
        let readers = self
            .list
            .iter()
            .filter(|block| block.inputs.contains(&value));
        readers.map(Block::padding).max().unwrap_or(0)
    }
}

pub(super) fn fuse(graph: &Graph) -> Result<Blocks, GraphError> {
    let nodes = graph.nodes();
    let mut readers = vec![0usize; nodes.len()];
    for &input in nodes.iter().flat_map(|node| &node.inputs) {
        readers[input] += 1;
    }
    // Which value holds a node's result, once it is whole.
    let mut value_of: Vec<Option<ValueId>> = vec![None; nodes.len()];
    value_of[0] = Some(0);
    let mut list: Vec<Block> = Vec::new();
    for (id, node) in nodes.iter().enumerate().skip(1) {
        let wrong = |reason: &str| GraphError::Node {
            node: node.name.clone(),
            reason: reason.to_owned(),
        };
        let inputs: Vec<ValueId> = node
            .inputs
            .iter()
            .map(|&from| value_of[from].expect("inputs come first"))
            .collect();
        // The block whose result this node alone reads, if any: it may take the node up.
        let open = (inputs[0] > 0 && readers[node.inputs[0]] == 1).then(|| inputs[0] - 1);
        let taken = open.is_some_and(|block| absorb(&mut list[block], graph, id));
        value_of[id] = Some(if taken {
            inputs[0]
        } else {
            match node.op {
                Op::Flatten => inputs[0],
                Op::BatchNorm { .. } => {
                    return Err(wrong(
                        "batch-norm must follow a convolution or linear layer",
                    ));
                }
                _ => {
                    list.push(block(graph, id, inputs));
                    list.len()
                }
            }
        });
    }
    let last = value_of[nodes.len() - 1].expect("every node has a value");
    if last != list.len() || list.is_empty() {
        return Err(GraphError::Whole {
            graph: graph.name().to_owned(),
            reason: "the last layer must give the logits".into(),
        });
    }
    Ok(Blocks {
        input: graph.input(),
        list,
    })
}

/// Lets `block` take up node `id` behind it, if the order main, batch-norm, ReLU, pool allows.
fn absorb(block: &mut Block, graph: &Graph, id: NodeId) -> bool {
    let node = &graph.nodes()[id];
    match node.op {
        Op::BatchNorm { eps, momentum }
            if block.has_weights()
                && graph.shape(node.inputs[0]) == block.out_shape
                && block.batch_norm.is_none()
                && !block.relu
                && block.pool == 1 =>
        {
            block.batch_norm = Some(BatchNormRef {
                name: node.name.clone(),
                eps,
                momentum,
            });
            true
        }
        // A ReLU behind the pool is the same as one before it, and is run as such.
        Op::Relu => {
            block.relu = true;
            true
        }
        Op::MaxPool2 if block.pool == 1 && matches!(block.kind, BlockKind::Conv { .. }) => {
            block.pool = 2;
            block.out_shape = graph.shape(id);
            true
        }
        _ => false,
    }
}

fn block(graph: &Graph, id: NodeId, inputs: Vec<ValueId>) -> Block {
    let node = &graph.nodes()[id];
    let in_shape = graph.shape(node.inputs[0]);
    let out_shape = graph.shape(id);
    let mut block = Block {
        name: node.name.clone(),
        kind: BlockKind::Elementwise,
        bias: false,
        batch_norm: None,
        relu: false,
        pool: 1,
        inputs,
        in_shape,
        conv_shape: out_shape,
        out_shape,
        macs: graph.node_macs(id),
    };
    match node.op {
        Op::Conv2d {
            kernel,
            stride,
            padding,
            bias,
            ..
        } => {
            block.kind = BlockKind::Conv {
                kernel,
                stride,
                padding,
            };
            block.bias = bias;
        }
        Op::Linear { .. } => {
            block.kind = BlockKind::Linear;
            block.bias = true;
        }
        Op::Add => block.kind = BlockKind::Add,
        Op::GlobalAvgPool => block.kind = BlockKind::GlobalAvgPool,
        Op::Relu => block.relu = true,
        Op::MaxPool2 => {
            block.pool = 2;
            block.conv_shape = in_shape;
        }
        Op::Input | Op::Flatten | Op::BatchNorm { .. } => {
            unreachable!("handled before a block is made")
        }
    }
    block
}
