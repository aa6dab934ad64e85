//! For each bug that can be planted the run that brings about what it needs to do harm: few faults, short, and the load that
//! it needs. The same run without the bug keeps all promises.

use super::Profile;
use crate::history::Millis;
use crate::plan::{Fault, Shape, Who};

const LEADER: Who = Who::Leader;
const A_YEAR: i64 = 365 * 86_400_000;

/// Some of everything: fewer faults than the mixed profile and for a shorter time.
fn short(mixed: Profile) -> Profile {
    let mut profile = Profile {
        cluster: Some((1, 0)),
        quiet: 1_500,
        lasts: 8_000,
        settles: 1_500,
        pause: 800..2_000,
        converges: 30_000,
        weights: Vec::new(),
        ..mixed
    };
    profile.knobs.flush = 800;
    profile.knobs.retention = None;
    profile.knobs.archive_retention = None;
    profile.knobs.archive = false;
    profile.knobs.rest = 50;
    profile
}

fn cut(shape: Shape, lasts: Millis) -> Fault {
    Fault::Cut(shape, lasts)
}

/// The mixed profile aimed at a bug.
pub(super) fn profile(mixed: Profile, name: &str) -> Option<Profile> {
    let mut profile = short(mixed);
    disks(&mut profile, name);
    votes(&mut profile, name);
    flushes(&mut profile, name);
    objects(&mut profile, name);
    (!profile.exactly.is_empty() || !profile.last.is_empty()).then_some(profile)
}

/// Bugs that show when machines lose power or processes begin again.
fn disks(profile: &mut Profile, name: &str) {
    let (knobs, exactly) = (&mut profile.knobs, &mut profile.exactly);
    match name {
        "ack-before-sync" => {
            knobs.sync_delay = 20;
            exactly.push(Fault::CrashAll(300));
        }
        "torn-tail-accepted" => {
            // What is torn is in the tail as long as nothing is flushed.
            (knobs.sync_delay, knobs.rest, knobs.flush, knobs.object) = (25, 10, 30_000, 0);
            exactly.push(Fault::CrashAll(150));
            profile.pause = 700..1_200;
        }
        "skip-producers-on-restore" => {
            knobs.flush = 400;
            knobs.answers_lost = 150;
            exactly.extend([Fault::CrashAll(300), Fault::Kill(Who::Any(0), 300), Fault::Kill(LEADER, 300)]);
        }
        "purge-past-checkpoint" => {
            knobs.keep = 0;
            exactly.extend([Fault::CrashAll(300), Fault::Kill(LEADER, 300)]);
        }
        "purge-without-keep" => {
            profile.lasts = 5_000;
            knobs.keep = 0;
            knobs.flush = 300;
            exactly.extend([Fault::Kill(Who::Any(0), 300), Fault::Kill(Who::Any(1), 300)]);
        }
        "install-keeps-tail" => {
            // Few records: what a flush finds in the tail it takes out of it, and no partition may have any.
            (knobs.keep, knobs.flush, knobs.rest) = (0, 300, 600);
            exactly.extend([Fault::Pause(Who::Follower(0), 4_000), Fault::Kill(Who::Follower(1), 4_000)]);
            profile.pause = 4_500..5_500;
            profile.lasts = 11_000;
        }
        _ => {}
    }
}

/// Bugs that show when leaders change, or do not know it, or when clocks are wrong.
fn votes(profile: &mut Profile, name: &str) {
    let (knobs, exactly) = (&mut profile.knobs, &mut profile.exactly);
    match name {
        "ack-on-one-of-three" => {
            exactly.push(cut(Shape::Isolated(LEADER), 2_500));
            profile.pause = 3_000..4_000;
        }
        "stale-leader-read" => {
            knobs.rest = 20;
            exactly.push(cut(Shape::Isolated(LEADER), 4_000));
            profile.pause = 4_500..5_000;
        }
        "discarded-is-forwarded" => {
            // The followers commit what was in flight and purge it from their logs: who led is sent a checkpoint.
            (knobs.rest, knobs.sync_delay, knobs.flush, knobs.keep) = (5, 30, 300, 0);
            knobs.refused = 1_000;
            exactly.push(cut(Shape::Isolated(LEADER), 2_600));
            profile.pause = 3_500..4_000;
        }
        "offset-at-propose" => {
            profile.lasts = 3_000;
            knobs.rest = 5;
            exactly.push(Fault::Delay(60, 2_000));
        }
        "wall-clock-in-apply" => {
            profile.lasts = 4_000;
            exactly.extend([Fault::ClockJump(Who::Any(0), 2_000), Fault::ClockJump(Who::Any(1), -2_000)]);
        }
        "clock-year-ahead" => {
            knobs.retention = Some(60_000);
            profile.last = vec![Fault::ClockJump(LEADER, A_YEAR)];
            (profile.quiet, profile.lasts) = (3_000, 3_000);
            profile.settles = 3_000;
        }
        _ => {}
    }
}

/// Bugs of flushes.
fn flushes(profile: &mut Profile, name: &str) {
    let (knobs, exactly) = (&mut profile.knobs, &mut profile.exactly);
    match name {
        // The proposal of a flush waits for so long that it is made anew, by the same leader or by the next one, and then both of
        // them are applied.
        "stale-flush-accepted" => {
            (knobs.flush, knobs.deadline, knobs.bucket_delay, knobs.sync_delay) = (200, Some(350), 5, 200);
            profile.cluster = Some((3, 0));
            exactly.extend([Fault::SlowSync(Who::Follower(0), 300, 1_500), Fault::Transfer]);
        }
        // Objects of a flush that is under way are older than the grace period before it ends.
        "late-flush-after-collection" => {
            (knobs.flush, knobs.grace, knobs.deadline) = (300, 800, Some(8_000));
            (knobs.put_delay, knobs.bucket_delay) = (3_000, 5);
            exactly.push(Fault::Transfer);
        }
        "trim-during-flush-forgotten" => {
            (knobs.flush, knobs.retention, knobs.put_delay) = (400, Some(1_500), 2_500);
            exactly.push(Fault::Transfer);
        }
        "object-for-unflushed-duplicate" => {
            (knobs.object, knobs.put_delay, knobs.rest) = (800, 1_500, 20);
            exactly.push(Fault::Kill(Who::Any(0), 200));
            exactly.push(Fault::Kill(Who::Any(1), 200));
        }
        _ => {}
    }
}

/// Bugs that show in the bucket.
fn objects(profile: &mut Profile, name: &str) {
    let (knobs, exactly) = (&mut profile.knobs, &mut profile.exactly);
    match name {
        "collect-named" => {
            profile.lasts = 5_000;
            (knobs.grace, knobs.flush) = (1_500, 400);
            exactly.push(Fault::Transfer);
        }
        "archive-drops-range" => {
            profile.lasts = 5_000;
            (knobs.archive, knobs.operate) = (true, 300);
            exactly.push(Fault::Transfer);
        }
        // Records leave the log and not the archive.
        "archive-goes-with-log" => {
            profile.lasts = 7_000;
            (knobs.archive, knobs.operate, knobs.flush) = (true, 300, 400);
            (knobs.retention, knobs.archive_retention) = (Some(1_500), Some(600_000));
            exactly.push(Fault::Transfer);
        }
        "stale-clean-checkpoint" => {
            profile.last = vec![Fault::Restore];
            (profile.quiet, profile.lasts) = (3_000, 3_000);
        }
        _ => {}
    }
}
