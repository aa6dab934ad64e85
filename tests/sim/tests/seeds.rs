//! Seeds as `cargo test` runs them. `cargo run --release -p sim --features simulation -- --seeds 2000` runs more.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn forty_seeds_keep_all_promises() {
    let output = sim(&["--seeds", "40"]);
    assert!(output.status.success(), "{}", text(&output));
    let told = text(&output);
    for what in ["seeds        40", "acknowledged", "evaluated", "failed       0"] {
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn a_seed_is_the_same_twice_and_another_one_is_another() {
    let line = |seed: &str| {
        let output = sim(&["--seed", seed]);
        let report = String::from_utf8_lossy(&output.stdout).lines().find_map(sim::report::read);
        report.unwrap_or_else(|| panic!("seed {seed} has no report: {}", text(&output)))
    };
    for seed in ["3", "5", "11"] {
        assert_eq!(line(seed), line(seed), "seed {seed}");
    }
    assert_ne!(line("3").hash, line("5").hash);
}

#[test]
fn names_that_do_not_exist_are_refused() {
    for arguments in [["--profile", "nonsense"], ["--bug", "nonsense"]] {
        assert_eq!(sim(&arguments).status.code(), Some(2));
    }
}
