//! What faults do to the world, and how they end.

use std::time::Duration;

use tidelog::model::NodeId;

use crate::clients::EPOCH;
use crate::errands::Errand;
use crate::history::Millis;
use crate::machine::Machine;
use crate::plan::{Fault, Shape, Who};
use crate::world::World;

/// A clock that is wrong by no more than this, milliseconds, is not called wrong.
const RIGHT: i64 = 10_000;
/// Wrong clocks are at least this far apart, milliseconds: several times what log time takes for agreement.
const APART: i64 = 20_000;

/// How a fault ends.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    /// These links are there again.
    Join(Vec<(u64, u64)>),
    Loss,
    Delay,
    Breaks,
    Sync(u64),
    Disk(u64),
    BucketErrors,
    BucketSlow,
    LateDeletes,
    BucketAway,
    /// The process goes on; it was stopped then.
    Resume(u64, Millis),
}

impl World {
    /// The node that is meant now; `None` if there is none.
    fn whom(&self, who: Who) -> Option<u64> {
        let members: Vec<u64> = self.members().map(|machine| machine.id).collect();
        let all: Vec<u64> = self.processes().map(|machine| machine.id).collect();
        let leader = self.leader();
        let others: Vec<u64> = members.iter().copied().filter(|id| Some(*id) != leader).collect();
        let pick = |from: &[u64], number: u64| from.get(number as usize % from.len().max(1)).copied();
        match who {
            Who::Leader => leader.or_else(|| pick(&members, 0)),
            Who::Follower(number) => pick(&others, number),
            Who::LeaderOf(number) => {
                let shard = u32::try_from(number % u64::from(self.shape.shards)).unwrap_or(0);
                self.leader_of(shard).or_else(|| pick(&members, 0))
            }
            Who::Any(number) => pick(&all, number),
        }
    }

    /// Something goes wrong.
    pub fn inflict(&mut self, fault: Fault) {
        if self.errand.as_ref().is_some_and(Errand::wants_calm) {
            return;
        }
        self.trace.count(fault.kind(), format_args!("{fault:?}"));
        match fault {
            Fault::Crash(who, off) => self.with(who, |world, id| world.crash(id, off)),
            Fault::CrashAll(off) => {
                let ids: Vec<u64> = self.processes().map(|machine| machine.id).collect();
                for id in ids {
                    let off = off / 2 + self.rng.below(off + 1);
                    self.crash(id, off);
                }
            }
            Fault::Kill(who, off) => self.with(who, |world, id| world.kill(id, off)),
            Fault::Pause(who, lasts) => self.with(who, |world, id| world.pause(id, lasts)),
            Fault::Cut(shape, lasts) => self.cut(shape, lasts),
            Fault::Loss(per_mille, lasts) => {
                self.net.change(|rules| rules.loss = per_mille);
                self.later(lasts, Undo::Loss);
            }
            Fault::Delay(most, lasts) => {
                self.net.change(|rules| (rules.delay, rules.stragglers) = (most, 100));
                self.later(lasts, Undo::Delay);
            }
            Fault::Breaks(per_mille, lasts) => {
                self.net.change(|rules| rules.breaks = per_mille);
                self.later(lasts, Undo::Breaks);
            }
            Fault::SlowSync(who, delay, lasts) => self.with(who, |world, id| {
                world.machines[&id].disk.set_sync_delay(Duration::from_millis(delay));
                world.later(lasts, Undo::Sync(id));
            }),
            Fault::SyncError(who) => self.with(who, |world, id| world.machines[&id].disk.fail_syncs(1)),
            Fault::FullDisk(who, room, lasts) => self.with(who, |world, id| {
                let disk = &world.machines[&id].disk;
                disk.set_limit(Some(disk.used() + room));
                world.later(lasts, Undo::Disk(id));
            }),
            Fault::ClockJump(who, by) => self.with(who, |world, id| world.set_clock(id, by)),
            Fault::BucketErrors(before, after, lasts) => {
                self.store.change(|rules| (rules.before, rules.after) = (before, after));
                self.later(lasts, Undo::BucketErrors);
            }
            Fault::BucketSlow(most, lasts) => {
                self.store.change(|rules| rules.delay = most);
                self.later(lasts, Undo::BucketSlow);
            }
            Fault::LateDeletes(most, lasts) => {
                self.store.change(|rules| rules.late_deletes = most);
                self.later(lasts, Undo::LateDeletes);
            }
            Fault::BucketAway(lasts) => {
                self.store.change(|rules| rules.is_away = true);
                self.later(lasts, Undo::BucketAway);
            }
            Fault::Transfer | Fault::Replace(_) | Fault::Drain(..) | Fault::FromBucket | Fault::Restore => {
                let whom = match fault {
                    Fault::Replace(who) | Fault::Drain(who, _) => self.whom(who),
                    _ => None,
                };
                self.send_errand(fault, whom);
            }
        }
    }

    fn with(&mut self, who: Who, act: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = self.whom(who) {
            act(self, id);
        }
    }

    /// A clock is set. No two that are wrong are wrong by the same: log time believes a majority that agrees, and one that is
    /// wrong cannot be told from one that is right (docs/decisions/0015-log-time-of-a-group.md). What a machine said that is gone
    /// by now still counts for ten seconds.
    fn set_clock(&mut self, id: u64, by: i64) {
        let right = (EPOCH + self.now).cast_signed();
        let wrong_by = |machine: &Machine| machine.clock.wall().cast_signed() - right;
        let others = self.machines.values().filter(|machine| machine.id != id);
        let wrong: Vec<i64> = others.map(wrong_by).filter(|by| by.abs() > RIGHT).collect();
        let mut error = wrong_by(&self.machines[&id]) + by;
        while wrong.iter().any(|other| (other - error).abs() <= APART) {
            error += APART * by.signum();
        }
        self.machines[&id].clock.set_wall(right.saturating_add(error).max(0).cast_unsigned());
    }

    /// The machine's power goes; it starts again after `off`.
    pub(crate) fn crash(&mut self, id: u64, off: Millis) {
        let mut rng = self.rng.fork(&format!("crash {}", self.now));
        let now = self.now;
        self.sample(id);
        self.desk.web.set(id, None);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.crash(&mut |below| rng.below(below.max(1)));
        machine.paused_until = None;
        machine.starts_at = Some(now + off);
    }

    /// The process ends; it starts again after `off`.
    pub(crate) fn kill(&mut self, id: u64, off: Millis) {
        let now = self.now;
        self.sample(id);
        self.desk.web.set(id, None);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.kill();
        machine.paused_until = None;
        machine.starts_at = Some(now + off);
    }

    fn pause(&mut self, id: u64, lasts: Millis) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_on()) else { return };
        if machine.paused_until.is_none() {
            machine.paused_until = Some(now + lasts);
            self.later(lasts, Undo::Resume(id, now));
        }
    }

    fn cut(&mut self, shape: Shape, lasts: Millis) {
        // Gateways call as nobody, and nobody calls them.
        let ids: Vec<u64> = self.members().map(|machine| machine.id).chain([NodeId::GATEWAY.0]).collect();
        let pairs = || ids.iter().flat_map(|from| ids.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to);
        let one = |who| self.whom(who);
        let cut: Vec<(u64, u64)> = match shape {
            Shape::Isolated(who) => {
                let node = one(who);
                pairs().filter(|(from, to)| Some(*from) == node || Some(*to) == node).collect()
            }
            Shape::Mute(who) => pairs().filter(|(from, _)| Some(*from) == one(who)).collect(),
            Shape::Deaf(who) => pairs().filter(|(_, to)| Some(*to) == one(who)).collect(),
            Shape::Link(left, right) => {
                let (left, right) = (one(left), one(right));
                let joins = |from, to| Some(from) == left && Some(to) == right;
                pairs().filter(|(from, to)| joins(*from, *to) || joins(*to, *from)).collect()
            }
            Shape::Halves(bits) => {
                let side = |id: u64| bits >> (id % 5) & 1;
                pairs().filter(|(from, to)| side(*from) != side(*to)).collect()
            }
            Shape::All => pairs().collect(),
        };
        self.net.change(|rules| rules.cut.extend(cut.iter().copied()));
        self.later(lasts, Undo::Join(cut));
    }

    fn later(&mut self, after: Millis, undo: Undo) {
        self.undo.entry(self.now + after).or_default().push(undo);
    }

    /// Faults end whose time is over.
    pub(crate) fn undo_due(&mut self) {
        let later = self.undo.split_off(&(self.now + 1));
        let due = std::mem::replace(&mut self.undo, later);
        for undo in due.into_values().flatten() {
            self.end(undo);
        }
    }

    fn end(&mut self, undo: Undo) {
        let (knobs, now) = (self.profile.knobs.clone(), self.now);
        match undo {
            Undo::Join(links) => self.net.change(|rules| rules.cut.retain(|link| !links.contains(link))),
            Undo::Loss => self.net.change(|rules| rules.loss = 0),
            Undo::Delay => self.net.change(|rules| (rules.delay, rules.stragglers) = (2, 10)),
            Undo::Breaks => self.net.change(|rules| rules.breaks = 0),
            Undo::Sync(id) => self.machines[&id].disk.set_sync_delay(Duration::from_millis(knobs.sync_delay)),
            Undo::Disk(id) => self.machines[&id].disk.set_limit(None),
            Undo::BucketErrors => self.store.change(|rules| (rules.before, rules.after) = (0, 0)),
            Undo::LateDeletes => self.store.change(|rules| rules.late_deletes = 0),
            Undo::BucketSlow => self.store.change(|rules| rules.delay = knobs.bucket_delay),
            Undo::BucketAway => self.store.change(|rules| rules.is_away = false),
            Undo::Resume(id, since) => {
                if let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.paused_until.is_some()) {
                    machine.resume(now - since);
                }
            }
        }
    }

    /// Everything is well again: links, disks, bucket; whoever was stopped or off goes on.
    pub fn heal(&mut self) {
        let all = std::mem::take(&mut self.undo);
        for undo in all.into_values().flatten() {
            self.end(undo);
        }
        self.calm();
        // A bucket that takes longer than what is deleted is kept for would never be well.
        self.store.change(|rules| rules.put_delay = 0);
        let (now, delay) = (self.now, Duration::from_millis(self.profile.knobs.sync_delay));
        for machine in self.machines.values_mut().filter(|machine| !machine.is_retired) {
            machine.disk.set_limit(None);
            machine.disk.fail_syncs(0);
            machine.disk.set_sync_delay(delay);
            if !machine.is_on() {
                machine.starts_at = Some(now + 1);
            }
        }
        self.trace.note("healed", "");
    }
}
