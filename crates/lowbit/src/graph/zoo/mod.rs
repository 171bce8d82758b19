//! The models that come with lowbit: one function, one file each.

mod eurosat_cnn;
mod eurosat_mobile;
mod eurosat_res;
mod lenet5;
mod mlp;
mod residual;
mod resnet20;
mod resnet8;
mod resnet8_large;

pub use eurosat_cnn::eurosat_cnn;
pub use eurosat_mobile::eurosat_mobile;
pub use eurosat_res::eurosat_res;
pub use lenet5::lenet5;
pub use mlp::mlp;
pub use resnet8::resnet8;
pub use resnet8_large::resnet8_large;
pub use resnet20::resnet20;

use super::{Graph, GraphError, Shape};

type Build = fn(Shape, &[String]) -> Result<Graph, GraphError>;

const MODELS: [(&str, Build); 8] = [
    ("eurosat-cnn", eurosat_cnn),
    ("eurosat-res", eurosat_res),
    ("eurosat-mobile", eurosat_mobile),
    ("resnet8", resnet8),
    ("resnet8-large", resnet8_large),
    ("resnet20", resnet20),
    ("lenet5", lenet5),
    ("mlp", mlp),
];

/// The names that [`build`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
}

/// The model called `name` for images of shape `input` and the given classes.
///
/// # Errors
/// [`GraphError`] when the name is unknown or the images are too small for the model.
pub fn build(name: &str, input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    match MODELS.iter().find(|(known, _)| *known == name) {
        Some((_, build)) => build(input, class_names),
        None => Err(GraphError::UnknownModel {
            name: name.to_owned(),
            known: names().collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class{class}")).collect()
    }

    #[test]
    fn models_have_the_parameters_and_macs_of_their_definitions() {
        for (name, side, parameters, macs) in [
            ("eurosat-cnn", 64, 434_602, 50_266_880),
            ("eurosat-res", 64, 377_018, 46_646_208),
            ("eurosat-mobile", 64, 152_002, 29_381_568),
            ("resnet8", 32, 78_042, 12_501_632),
            ("resnet8-large", 32, 481_170, 76_473_920),
            ("resnet20", 32, 272_474, 40_813_184),
            ("lenet5", 32, 62_006, 651_720),
        ] {
            let graph = build(name, Shape::new(side, side, 3), &classes(10)).unwrap();
            let found = (graph.parameter_count(), graph.macs());
            assert_eq!(found, (parameters, macs), "{name}");
        }
    }

    #[test]
    fn eurosat_cnn_on_32_pixel_images_flattens_96_features() {
        let graph = eurosat_cnn(Shape::new(32, 32, 3), &classes(10)).unwrap();
        let fc1 = graph
            .parameters()
            .into_iter()
            .find(|p| p.name == "fc1.weight")
            .unwrap();
        assert_eq!(fc1.shape, [128, 96]);
    }

    #[test]
    fn every_model_follows_classes_and_channels_and_fuses_into_steps() {
        for name in names() {
            let graph = build(name, Shape::new(32, 32, 1), &classes(7)).unwrap();
            assert_eq!(graph.classes(), 7, "{name}");
            assert!(graph.program().unwrap().steps().len() > 1, "{name}");
        }
    }

    #[test]
    fn images_too_small_for_a_model_are_refused_with_the_layer() {
        let error = eurosat_cnn(Shape::new(20, 20, 3), &classes(10)).unwrap_err();
        assert!(error.to_string().contains("conv3"), "{error}");
    }

    #[test]
    fn graphs_survive_json() {
        for name in names() {
            let graph = build(name, Shape::new(32, 32, 3), &classes(10)).unwrap();
            let json = serde_json::to_string(&graph).unwrap();
            assert_eq!(serde_json::from_str::<Graph>(&json).unwrap(), graph);
        }
    }
}
