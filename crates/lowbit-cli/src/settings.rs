//! Settings as flags: the lab's groups, flattened into the commands that use them.

use clap::builder::{NonEmptyStringValueParser, PossibleValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, ValueHint, value_parser};
use lowbit_lab::config::{
    Area, Config, ConfigError, Group, Layers, Setting, Values, areas, recipes,
};
use std::marker::PhantomData;
use std::path::PathBuf;

/// What a user has set: a file, pairs and flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    recipe: Option<String>,
    file: Option<PathBuf>,
    pairs: Vec<String>,
    /// Flag, key and value.
    flags: Vec<(String, &'static str, String)>,
    /// Keys that the command uses.
    used: Vec<&'static str>,
}

impl Given {
    /// Keys that the command uses.
    pub(crate) fn used(&self) -> &[&'static str] {
        &self.used
    }

    /// Whether a user has given this key, by a flag or a pair.
    pub(crate) fn sets(&self, key: &str) -> bool {
        let pair = |pair: &String| {
            pair.split_once('=')
                .is_some_and(|(set, _)| set.trim().replace('-', "_") == key)
        };
        self.flags.iter().any(|(_, set, _)| *set == key) || self.pairs.iter().any(pair)
    }

    /// `defaults`, overlaid by the recipe, by the file, by the pairs, by the flags. A file may hold settings of other commands, since one
    /// file serves several; a pair and a flag may not.
    pub(crate) fn over(&self, defaults: Config) -> Result<Config, ConfigError> {
        let mut layers = Layers::over(defaults);
        if let Some(name) = &self.recipe {
            layers.recipe(name)?;
        }
        if let Some(file) = &self.file {
            layers.file(file)?;
        }
        for pair in &self.pairs {
            let key = layers.pair(pair)?;
            if !self.used.contains(&key.as_str()) {
                return Err(ConfigError::Value {
                    origin: format!("--set {pair}"),
                    reason: format!("this command does not use {key}"),
                });
            }
        }
        for (flag, key, value) in &self.flags {
            layers.flag(flag, key, value)?;
        }
        Ok(layers.finish())
    }
}

/// The settings of the areas `A`, flattened into a command.
pub(crate) struct Flags<A> {
    pub(crate) given: Given,
    areas: PhantomData<A>,
}

// Not derived: a derive would ask the areas for these traits, and tuples of more than twelve have none.
impl<A> Clone for Flags<A> {
    fn clone(&self) -> Self {
        Self {
            given: self.given.clone(),
            areas: PhantomData,
        }
    }
}

impl<A> std::fmt::Debug for Flags<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.given.fmt(f)
    }
}

/// Areas of settings that a command uses.
pub(crate) trait Areas {
    /// Their groups, in the order of the help.
    fn groups() -> Vec<&'static Group>;
}

macro_rules! areas {
    ($($area:ident)+) => {
        impl<$($area: Area),+> Areas for ($($area,)+) {
            fn groups() -> Vec<&'static Group> {
                vec![$($area::GROUP),+]
            }
        }
    };
}
areas!(A);
areas!(A B);
areas!(A B C);
areas!(A B C D);
areas!(A B C D E);
areas!(A B C D E F);
areas!(A B C D E F G);
areas!(A B C D E F G H);
areas!(A B C D E F G H I);
areas!(A B C D E F G H I J);
areas!(A B C D E F G H I J K);
areas!(A B C D E F G H I J K L);
areas!(A B C D E F G H I J K L M);
areas!(A B C D E F G H I J K L M N);
areas!(A B C D E F G H I J K L M N O);

impl<A: Areas> clap::Args for Flags<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let defaults = toml::Table::try_from(Config::default()).expect("settings are plain data");
        let groups = A::groups();
        let flags = groups.iter().flat_map(|group| {
            let of = |setting| flag(setting, group.heading, &defaults);
            group.settings.iter().map(of).collect::<Vec<_>>()
        });
        let command = match trains(&groups) {
            false => command,
            true => command.arg(
                Arg::new("recipe")
                    .long("recipe")
                    .value_name("NAME")
                    .value_parser(Suggested(recipes::names()))
                    .help_heading("Settings from elsewhere")
                    .help("Settings of a training that is worth repeating (lowbit recipes lists them); a file and flags win over it"),
            ),
        };
        command
            .args(flags)
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILE")
                    .value_hint(ValueHint::FilePath)
                    .value_parser(value_parser!(PathBuf))
                    .help_heading("Settings from elsewhere")
                    .help(
                        "A TOML file of settings: the names above, with _ for -; flags win over it",
                    ),
            )
            .arg(
                Arg::new("set")
                    .long("set")
                    .value_name("KEY=VALUE")
                    .action(ArgAction::Append)
                    .help_heading("Settings from elsewhere")
                    .help("One setting, e.g. --set epochs=3 (may be repeated)"),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<A: Areas> clap::FromArgMatches for Flags<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let groups = A::groups();
        let settings = groups.iter().flat_map(|group| group.settings);
        let given =
            |setting: &Setting| matches.value_source(id(setting)) == Some(ValueSource::CommandLine);
        let value = |setting: &Setting| match setting.values {
            Values::Off(_) => "false".to_owned(),
            Values::On => "true".to_owned(),
            Values::List(_) => {
                let all = matches.get_many::<String>(id(setting));
                let all: Vec<String> = all.into_iter().flatten().cloned().collect();
                all.join(",")
            }
            _ => matches
                .get_one::<String>(id(setting))
                .cloned()
                .unwrap_or_default(),
        };
        Ok(Self {
            given: Given {
                recipe: match trains(&groups) {
                    true => matches.get_one("recipe").cloned(),
                    false => None,
                },
                file: matches.get_one("config").cloned(),
                pairs: matches
                    .get_many("set")
                    .map_or_else(Vec::new, |pairs| pairs.cloned().collect()),
                flags: settings
                    .clone()
                    .filter(|setting| given(setting))
                    .map(|setting| (setting.flag(), setting.key, value(setting)))
                    .collect(),
                used: settings.map(|setting| setting.key).collect(),
            },
            areas: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether a command with these groups trains by a recipe.
fn trains(groups: &[&Group]) -> bool {
    let mut settings = groups.iter().flat_map(|group| group.settings);
    settings.any(|setting| setting.key == "weight_decay")
}

/// The name by which clap knows a setting. Slurm's partition is an argument too.
fn id(setting: &Setting) -> &'static str {
    match setting.key {
        "partition" => "deal",
        key => key,
    }
}

/// A setting as an argument of clap. Its value is read by the lab, as one of a file is, so that the same error comes of it.
fn flag(setting: &'static Setting, heading: &'static str, defaults: &toml::Table) -> Arg {
    let arg = Arg::new(id(setting))
        .long(setting.flag())
        .help_heading(heading)
        .help(setting.help.trim());
    // A size that is cut out of larger images has the name that others give it.
    let arg = match setting.key {
        "image_size" => arg.visible_alias("crop"),
        "partition" => arg.visible_alias("deal"),
        _ => arg,
    };
    match setting.values {
        Values::Off(help) => return arg.action(ArgAction::SetTrue).help(help),
        Values::On => return arg.action(ArgAction::SetTrue),
        _ => {}
    }
    let default = shown(&defaults[setting.key]);
    let arg = arg.allow_negative_numbers(true);
    // What is empty is not set, and nothing to show.
    let arg = if default.is_empty() {
        arg
    } else {
        arg.default_value(default)
    };
    match &setting.values {
        // Unset variables of a shell are no settings.
        Values::Any(name) if setting.key == "deadline" => arg
            .value_name(name)
            .value_parser(NonEmptyStringValueParser::new()),
        Values::Any(name) => arg.value_name(name),
        Values::Path(name) => arg.value_name(name).value_hint(ValueHint::AnyPath),
        Values::OneOf(list) => arg.value_name("NAME").value_parser(Suggested(list())),
        Values::List(name) => arg
            .value_name(name)
            .action(ArgAction::Append)
            .value_parser(NonEmptyStringValueParser::new()),
        Values::Like(name, list) => arg
            .value_name(name)
            .hide_possible_values(true)
            .value_parser(Suggested(list.to_vec())),
        Values::Off(_) | Values::On => arg,
    }
}

/// An argument that is there to be refused with a better reason than that nobody knows it.
pub(crate) fn hidden(arg: Arg) -> Arg {
    arg.hide(true)
}

/// A default as a user would write it.
pub(crate) fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        // Most settings are f32: as f64 they have digits that nobody wrote.
        toml::Value::Float(number) if f64::from(*number as f32) == *number => {
            (*number as f32).to_string()
        }
        other => other.to_string(),
    }
}

/// Takes any text; the values are those that help and completions show.
#[derive(Clone)]
struct Suggested(Vec<&'static str>);

impl clap::builder::TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The areas of each command.
pub(crate) mod of {
    use super::areas::*;

    pub(crate) type Compare = (
        Network,
        Images,
        Input,
        Onnx,
        Training,
        Recipe,
        Widths,
        OtherWidths,
        Ptq,
        Calibration,
        Run,
        Results,
    );
    pub(crate) type Train = (
        Network,
        Images,
        Input,
        Onnx,
        Training,
        Recipe,
        Run,
        Results,
        Curves,
    );
    pub(crate) type QatVsPtq = (
        Network,
        Images,
        Input,
        Onnx,
        Training,
        Recipe,
        Widths,
        OtherWidths,
        Ptq,
        Calibration,
        Qat,
        Run,
        Repeats,
        Results,
        Curves,
    );
    pub(crate) type Sweep = (
        Network,
        Images,
        Input,
        Onnx,
        Training,
        Recipe,
        Chain,
        Widths,
        OtherWidths,
        Qat,
        Federating,
        Run,
        Repeats,
        Results,
        Curves,
    );
    pub(crate) type Federate = (
        Federating,
        Network,
        Images,
        Input,
        Training,
        OtherWidths,
        Qat,
        Run,
        Results,
        Curves,
    );
    pub(crate) type Analyze = (Results,);
    pub(crate) type Quantize = (
        Images,
        Input,
        Onnx,
        Widths,
        OtherWidths,
        Ptq,
        Calibration,
        Run,
    );
    pub(crate) type Recommend = (Images, Input, Onnx, Calibration, Run, Results);
    pub(crate) type Doctor = (Images, Input, Onnx, Calibration, Run);
    pub(crate) type Eval = (Images, Input, Onnx, Run);
    pub(crate) type Bench = (Network, Input, Onnx, Widths, OtherWidths, Ptq, Run, Results);
    pub(crate) type Inspect = (Input, Onnx);
    pub(crate) type Export = (Input, Onnx);
    pub(crate) type Data = (Images, Input, Run);
}
