//! Which tensors a model's messages hold, in which order: agreed once, never sent.

use crate::norm::Norm;
use lowbit::graph::{Graph, ParameterKind};
use lowbit::{Tensor, Weights};
use std::ops::Range;

/// What a tensor is to the federation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Weights of a convolution or linear layer: sent as differences, at the message's width.
    Matrix,
    /// Biases, and batch-norm's scale and shift: sent as differences.
    Vector,
    /// Batch-norm's running statistics, and the steps of quantizers: sent as they are.
    Statistic,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// `conv1.weight`, `bn1.running_mean`, ...
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// What it is to the federation.
    pub role: Role,
}

impl TensorSpec {
    /// Numbers in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Output channels: what has a scale of its own.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self.role {
            Role::Matrix => self.shape.first().copied().unwrap_or(1).max(1),
            Role::Vector | Role::Statistic => 1,
        }
    }
}

/// The tensors of a model, ordered by role and then by name, as one flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    tensors: Vec<TensorSpec>,
    /// Where each begins in the flat vector; one more at the end.
    offsets: Vec<usize>,
    digest: u64,
}

impl Schema {
    /// Orders `tensors`.
    #[must_use]
    pub fn new(mut tensors: Vec<TensorSpec>) -> Self {
        tensors.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        let mut offsets = vec![0];
        for tensor in &tensors {
            offsets.push(offsets[offsets.len() - 1] + tensor.len());
        }
        let digest = digest(&tensors);
        Self {
            tensors,
            offsets,
            digest,
        }
    }

    /// The tensors of `weights`: those of `graph`, and what quantization-aware training adds.
    #[must_use]
    pub fn of(graph: &Graph, weights: &Weights) -> Self {
        let known = graph.parameters();
        let role = |name: &str| match known.iter().find(|known| known.name == name) {
            Some(known) => match known.kind {
                ParameterKind::Weight => Role::Matrix,
                kind if kind.is_trainable() => Role::Vector,
                _ => Role::Statistic,
            },
            None => Role::Statistic,
        };
        let spec = |(name, tensor): (&str, &Tensor)| TensorSpec {
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            role: role(name),
        };
        Self::new(weights.iter().map(spec).collect())
    }

    /// The tensors that travel, and those that stay with each client: none, or batch-norm's.
    #[must_use]
    pub fn split(graph: &Graph, weights: &Weights, norm: Norm) -> (Self, Self) {
        let known = graph.parameters();
        let of_norm = |spec: &TensorSpec| {
            let found = known.iter().find(|known| known.name == spec.name);
            found.is_some_and(|known| {
                !matches!(known.kind, ParameterKind::Weight | ParameterKind::Bias)
            })
        };
        let all = Self::of(graph, weights).tensors;
        let stays = |spec: &TensorSpec| norm == Norm::Local && of_norm(spec);
        let (own, travels) = all.into_iter().partition(stays);
        (Self::new(travels), Self::new(own))
    }

    /// In order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Numbers in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets[self.tensors.len()]
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and shapes as 64 bits (FNV-1a over `name 00 dim dim … ff`, dimensions as u32): both sides must agree on it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Where the tensors `tensors` lie in the flat vector.
    #[must_use]
    pub fn span(&self, tensors: Range<usize>) -> Range<usize> {
        self.offsets[tensors.start]..self.offsets[tensors.end]
    }

    /// Indices of the tensors of a role; they lie side by side.
    #[must_use]
    pub fn of_role(&self, role: Role) -> Range<usize> {
        let start = self.tensors.partition_point(|tensor| tensor.role < role);
        let end = self.tensors.partition_point(|tensor| tensor.role <= role);
        start..end
    }

    /// Where what gradients train lies in the flat vector: all before the statistics.
    #[must_use]
    pub fn trained(&self) -> Range<usize> {
        0..self.span(self.of_role(Role::Statistic)).start
    }

    /// Lengths of the rows (output channels) of the tensors `tensors`, one after the other.
    pub fn rows(&self, tensors: Range<usize>) -> impl Iterator<Item = usize> + Clone + '_ {
        self.tensors[tensors]
            .iter()
            .filter(|tensor| !tensor.is_empty())
            .flat_map(|tensor| {
                let rows = tensor.rows();
                std::iter::repeat_n(tensor.len() / rows, rows)
            })
    }

    /// The weights as one flat vector; none if a tensor is missing or of another size.
    #[must_use]
    pub fn flatten(&self, weights: &Weights) -> Option<Vec<f32>> {
        let mut flat = Vec::with_capacity(self.len());
        for tensor in &self.tensors {
            let found = weights.get(&tensor.name)?;
            if found.shape() != tensor.shape {
                return None;
            }
            flat.extend_from_slice(found.data());
        }
        Some(flat)
    }

    /// The tensors of a flat vector.
    ///
    /// # Panics
    /// If it has another length than the schema.
    #[must_use]
    pub fn unflatten(&self, flat: &[f32]) -> Weights {
        let mut weights = Weights::new();
        self.write(flat, &mut weights);
        weights
    }

    /// Puts the tensors of a flat vector among `weights`.
    ///
    /// # Panics
    /// If it has another length than the schema.
    pub fn write(&self, flat: &[f32], weights: &mut Weights) {
        assert_eq!(flat.len(), self.len(), "a flat vector of this schema");
        for (index, tensor) in self.tensors.iter().enumerate() {
            let data = flat[self.span(index..index + 1)].to_vec();
            weights.insert(tensor.name.clone(), Tensor::new(tensor.shape.clone(), data));
        }
    }

    /// Name of the tensor that holds number `index` of the flat vector.
    #[must_use]
    pub fn name_at(&self, index: usize) -> &str {
        let tensor = self.offsets.partition_point(|&offset| offset <= index);
        self.tensors
            .get(tensor.saturating_sub(1))
            .map_or("", |tensor| &tensor.name)
    }
}

fn digest(tensors: &[TensorSpec]) -> u64 {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    };
    for tensor in tensors {
        tensor.name.bytes().for_each(&mut add);
        add(0);
        for &dimension in &tensor.shape {
            (dimension as u32)
                .to_le_bytes()
                .into_iter()
                .for_each(&mut add);
        }
        add(0xff);
    }
    digest
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn small() -> Schema {
        let spec = |name: &str, shape: &[usize], role| TensorSpec {
            name: name.into(),
            shape: shape.to_vec(),
            role,
        };
        Schema::new(vec![
            spec("bn.running_mean", &[3], Role::Statistic),
            spec("conv.bias", &[3], Role::Vector),
            spec("conv.weight", &[3, 2, 2, 5], Role::Matrix),
            spec("fc.weight", &[4, 70], Role::Matrix),
        ])
    }

    #[test]
    fn matrices_come_first_and_statistics_last() {
        let schema = small();
        let names: Vec<_> = schema.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(
            names,
            ["conv.weight", "fc.weight", "conv.bias", "bn.running_mean"]
        );
        assert_eq!(schema.len(), 60 + 280 + 3 + 3);
        assert_eq!(schema.trained(), 0..343);
        assert_eq!(schema.of_role(Role::Matrix), 0..2);
        assert_eq!(
            schema.rows(0..2).collect::<Vec<_>>(),
            [20, 20, 20, 70, 70, 70, 70]
        );
        assert_eq!(schema.name_at(60), "fc.weight");
        assert_eq!(schema.name_at(345), "bn.running_mean");
    }

    #[test]
    fn a_flat_vector_and_its_tensors_are_the_same() {
        let schema = small();
        let flat: Vec<f32> = (0..schema.len()).map(|x| x as f32).collect();
        let weights = schema.unflatten(&flat);
        assert_eq!(schema.flatten(&weights), Some(flat));
        assert_eq!(schema.flatten(&Weights::new()), None);
    }

    #[test]
    fn batch_norm_travels_or_stays_whole() {
        let input = lowbit::Shape::new(16, 16, 3);
        let classes = ["ant", "bee"].map(String::from);
        let graph = lowbit::graph::zoo::build("resnet8", input, &classes).unwrap();
        let weights = Weights::init(&graph, 1);
        let all = Schema::of(&graph, &weights);
        let (travels, own) = Schema::split(&graph, &weights, Norm::Server);
        assert_eq!((&travels, own.len()), (&all, 0));
        let (travels, own) = Schema::split(&graph, &weights, Norm::Local);
        assert_eq!(travels.len() + own.len(), all.len());
        assert_eq!(travels.of_role(Role::Statistic).len(), 0);
        // Scale, shift, mean and variance of each.
        let means = own.tensors().iter();
        let means = means.filter(|tensor| tensor.name.ends_with(".running_mean"));
        assert_eq!(own.tensors().len(), 4 * means.count());
        let travels_of_bn = |tensor: &&TensorSpec| tensor.name.contains("bn");
        assert_eq!(travels.tensors().iter().find(travels_of_bn), None);
        let mut back = Weights::new();
        for part in [&travels, &own] {
            part.write(&part.flatten(&weights).unwrap(), &mut back);
        }
        assert_eq!(back, weights);
    }

    #[test]
    fn another_shape_is_another_schema() {
        let schema = small();
        let mut tensors = schema.tensors().to_vec();
        tensors[0].shape = vec![3, 2, 5, 2];
        assert_ne!(Schema::new(tensors).digest(), schema.digest());
    }
}
