//! Completions and manual pages.

mod common;

use common::{lowbit, names, refused, stderr, stdout};
use std::process::Command;

/// What bash offers behind these words.
fn offered(script: &std::path::Path, words: &[&str]) -> Option<Vec<String>> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.len() - 1;
    let program = format!(
        "source '{}'; COMP_WORDS=({}); COMP_CWORD={last}; _lowbit lowbit '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" "),
        words[last],
        words[last - 1],
    );
    let output = Command::new("bash").args(["-c", &program]).output().ok()?;
    assert!(output.status.success(), "{}", stderr(&output));
    Some(stdout(&output).lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_their_flags_and_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let output = lowbit(folder.path(), &["completions", "bash"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let script = folder.path().join("lowbit.bash");
    std::fs::write(&script, &output.stdout).unwrap();
    let Some(commands) = offered(&script, &["lowbit", "qu"]) else {
        eprintln!("skipped: there is no bash");
        return;
    };
    assert_eq!(commands, ["quantize"]);
    for (words, expected) in [
        (
            &["lowbit", "train", "--optimizer", ""][..],
            &["adam", "sgd", "nesterov"][..],
        ),
        (&["lowbit", "train", "--sch"], &["--schedule"]),
        (
            &["lowbit", "bench", "--bits", ""],
            &["16", "8", "4", "2", "1"],
        ),
        (
            &["lowbit", "compare", "--observer", "m"],
            &["minmax", "mse"],
        ),
        (&["lowbit", "qat-vs-ptq", "--no-s"], &["--no-ste"]),
        (
            &["lowbit", "train", "--model", ""],
            &[
                "eurosat-cnn",
                "eurosat-res",
                "eurosat-mobile",
                "resnet8",
                "resnet8-large",
                "resnet20",
                "lenet5",
                "mlp",
            ],
        ),
    ] {
        assert_eq!(offered(&script, words).unwrap(), expected, "{words:?}");
    }
    // What a command does not take is not offered.
    let inspect = offered(&script, &["lowbit", "inspect", "--"]).unwrap();
    assert!(inspect.contains(&"--json".to_owned()), "{inspect:?}");
    assert!(!inspect.contains(&"--lr".to_owned()), "{inspect:?}");
}

#[test]
fn zsh_and_fish_get_completions_that_their_shell_can_read() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let output = lowbit(folder.path(), &["completions", shell]);
        assert!(stdout(&output).contains("optimizer"), "{shell}");
        let script = folder.path().join(shell);
        std::fs::write(&script, &output.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(&script).output() {
            Ok(checked) => assert!(checked.status.success(), "{}", stderr(&checked)),
            Err(_) => eprintln!("skipped the check by {shell}, which is not here"),
        }
    }
    let line = refused(folder.path(), &["man", "sheep"], 2);
    assert_eq!(line, "error: no command sheep: see `lowbit --help`");
}

#[test]
fn manual_pages_hold_what_the_help_holds() {
    let folder = tempfile::tempdir().unwrap();
    let output = lowbit(folder.path(), &["man", "--into", "man1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let pages = names(&folder.path().join("man1"));
    assert!(pages.len() >= 13, "{pages:?}");
    for page in ["lowbit.1", "lowbit-train.1", "lowbit-qat-vs-ptq.1"] {
        assert!(pages.contains(&page.to_owned()), "{pages:?}");
    }
    let train = std::fs::read_to_string(folder.path().join("man1/lowbit-train.1")).unwrap();
    assert_eq!(stdout(&lowbit(folder.path(), &["man", "train"])), train);
    for part in [
        ".TH lowbit-train 1",
        ".SH TRAINING",
        "\\-\\-epochs",
        "adam",
        ".SH \"EXAMPLES AND NOTES\"\n.nf",
    ] {
        assert!(train.contains(part), "{part}: {train}");
    }
    let page = folder.path().join("man1/lowbit.1");
    match Command::new("groff")
        .args(["-man", "-Tutf8", "-ww"])
        .arg(&page)
        .output()
    {
        Ok(shown) => {
            assert_eq!(stderr(&shown), "");
            assert!(stdout(&shown).contains("\n         lowbit compare --data EuroSAT_RGB.zip"));
        }
        Err(_) => eprintln!("skipped the check by groff, which is not here"),
    }
}
