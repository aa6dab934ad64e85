//! Every bug of the engine's list is found within twenty seeds of the profile that is aimed at it. With the feature
//! `planted-bugs` only: `cargo test -p sim --features planted-bugs --test planted`. The long form searches 300 seeds of the mixed
//! profile: `sim --bug NAME --profile mixed --seeds 300 --until-caught`.
#![cfg(feature = "planted-bugs")]

use std::process::Command;

#[test]
fn every_planted_bug_is_caught_within_twenty_seeds() {
    let mut escaped = Vec::new();
    for bug in tidelog::planted::Bug::ALL {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--bug", bug.name(), "--seeds", "20", "--until-caught"])
            .output()
            .unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        if output.status.success() {
            escaped.push(bug.name());
        }
    }
    assert_eq!(escaped, [""; 0]);
}
