//! Settings of trainings that are worth repeating, by name: a TOML file each under `recipes/`.

/// A training that is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedRecipe {
    /// Its name.
    pub name: &'static str,
    /// What it trains, on what.
    pub about: &'static str,
    /// Test accuracy of its runs, on which split, with how many seeds, in how long, on which machine; none where it has not been
    /// run to its end.
    pub reached: Option<&'static str>,
    /// Its settings, as a file of `--config`.
    pub toml: &'static str,
}

/// All of them.
pub const RECIPES: &[NamedRecipe] = &[
    NamedRecipe {
        name: "cifar10-resnet8",
        about: "resnet8 on CIFAR-10 (--data cifar-10-python.tar.gz)",
        reached: Some(
            "FP32 88.29 %, INT8 88.06, 4, 2, 1 bits 88.16, 87.22, 83.69 (seed 1; 78 min, 1 thread)",
        ),
        toml: include_str!("../../recipes/cifar10-resnet8.toml"),
    },
    NamedRecipe {
        name: "cifar10-resnet8-large",
        about: "resnet8-large on CIFAR-10 (--data cifar-10-python.tar.gz)",
        reached: None,
        toml: include_str!("../../recipes/cifar10-resnet8-large.toml"),
    },
    NamedRecipe {
        name: "cifar10-resnet20",
        about: "resnet20 on CIFAR-10 (--data cifar-10-python.tar.gz)",
        reached: None,
        toml: include_str!("../../recipes/cifar10-resnet20.toml"),
    },
    NamedRecipe {
        name: "eurosat-cnn",
        about: "eurosat-cnn on EuroSAT",
        reached: Some(
            "60/20/20: FP32 95.98 %, INT8 95.93, 4, 2 bits rounded 95.91, 95.44 (seed 1; 36 min)",
        ),
        toml: include_str!("../../recipes/eurosat-cnn.toml"),
    },
    NamedRecipe {
        name: "eurosat-res",
        about: "eurosat-res on EuroSAT",
        reached: Some(
            "60/20/20: FP32 97.63 %, INT8 97.62, 4, 2, 1 bits 97.57, 97.61, 96.97 (3 seeds; 35 min)",
        ),
        toml: include_str!("../../recipes/eurosat-res.toml"),
    },
    NamedRecipe {
        name: "eurosat-mobile",
        about: "eurosat-mobile on EuroSAT",
        reached: None,
        toml: include_str!("../../recipes/eurosat-mobile.toml"),
    },
];

/// Names of all of them.
#[must_use]
pub fn names() -> Vec<&'static str> {
    RECIPES.iter().map(|recipe| recipe.name).collect()
}
