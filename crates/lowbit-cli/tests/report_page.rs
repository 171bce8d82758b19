//! The report of a small sweep, opened in a real browser (skipped, with a line that says so, where there is none).

use std::path::Path;
use std::process::Command;

/// Runs `tests/browser/report.mjs`; `npm install` in that folder brings what it needs.
#[test]
fn a_sweep_leaves_a_report_that_a_browser_opens_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "sweep --model mlp --limit 60 --epochs 2 --batch-size 16 --threads 2 --seeds 2 --widths 32,8,1 --quiet";
    let output = Command::new(env!("CARGO_BIN_EXE_lowbit"))
        .args(arguments.split(' '))
        .current_dir(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env_remove("LOWBIT_ISA")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = folder.path().join("outputs/report.html");
    let page = std::fs::read_to_string(&report).unwrap();
    for part in [
        "Accuracy against size",
        "Roofline of mlp",
        "before and after",
        "As text",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/browser");
    let chromium = std::env::var("CHROMIUM").unwrap_or("/usr/bin/chromium".into());
    if !Path::new(&chromium).exists() || !browser.join("node_modules/playwright-core").exists() {
        eprintln!("skipped the browser: needs chromium, and `npm install` in tests/browser");
        return;
    }
    let shots = folder.path().join("shots");
    let run = Command::new("node")
        .arg(browser.join("report.mjs"))
        .args([&report, &shots])
        .output()
        .expect("node starts");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    for name in ["light.png", "dark.png", "phone.png", "print.pdf"] {
        assert!(shots.join(name).exists(), "{name}");
    }
}
