//! What operators do that takes several steps: moving leaderships, replacing and draining nodes, starting from the bucket.
//!
//! One errand at a time. Those that begin the cluster anew want the faults to hold still, since what they prove is the bucket;
//! the others go on through whatever happens and are tried again until they are done.

use futures::FutureExt as _;
use tidelog::config::ClusterNode;
use tidelog::error::{ErrorKind, Result};
use tidelog::model::{ClusterStatus, NodeId};
use tidelog::queue::Queue;
use tokio::task::JoinHandle;

use crate::bucket;
use crate::history::{Cut, Millis};
use crate::plan::Fault;
use crate::world::{World, address};

/// How long an operator waits for an answer before asking again.
const AGAIN: Millis = 1_000;
/// How long a close may take: then the machines are started again, which opens it.
const CLOSE_PATIENCE: Millis = 20_000;
/// How long a refusal or an opening of a start from the bucket is waited for.
const START_PATIENCE: Millis = 30_000;

/// What is being done.
pub struct Errand {
    step: Step,
    since: Millis,
    asked: Option<JoinHandle<Result<ClusterStatus>>>,
    asks_at: Millis,
}

enum Step {
    /// The node gives its leadership away, then its process ends and begins again after so long.
    Drain(u64, Millis),
    /// The second takes the first one's place.
    Replace(u64, u64),
    /// The cluster is being closed.
    Close(JoinHandle<Result<()>>),
    /// This one starts from the bucket alone; whether it may lose something, and whether it has to be refused.
    Found { founder: u64, expects_refusal: bool },
    /// These are still to be taken in.
    Grow(Vec<u64>),
}

impl Errand {
    /// Whether faults hold still meanwhile.
    #[must_use]
    pub fn wants_calm(&self) -> bool {
        matches!(self.step, Step::Close(_) | Step::Found { .. } | Step::Grow(_))
    }

    /// What it is, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.step {
            Step::Drain(..) => "drain",
            Step::Replace(..) => "replace",
            Step::Close(_) => "close",
            Step::Found { .. } => "found",
            Step::Grow(_) => "grow",
        }
    }
}

impl World {
    /// An operator begins something, unless another one is at it.
    pub(crate) fn send_errand(&mut self, fault: Fault, whom: Option<u64>) {
        if matches!(fault, Fault::Transfer) {
            return self.transfer();
        }
        if self.errand.is_some() {
            return;
        }
        match (fault, whom) {
            (Fault::Drain(_, off), Some(node)) => {
                self.ask_at(node, |queue| async move { queue.drain().await });
                self.errand_is(Step::Drain(node, off));
            }
            (Fault::Replace(_), Some(old)) => self.replace(old),
            (Fault::FromBucket, _) => self.close(),
            (Fault::Restore, _) => self.restore(),
            _ => {}
        }
    }

    fn errand_is(&mut self, step: Step) {
        self.errand = Some(Errand { step, since: self.now, asked: None, asks_at: self.now });
    }

    fn transfer(&mut self) {
        let members: Vec<NodeId> = self.members().map(|machine| NodeId(machine.id)).collect();
        let to = self.rng.chance(500).then(|| *self.rng.pick(&members));
        if let Some(asked) = self.asked() {
            self.ask_at(asked, move |queue| async move { queue.transfer_leader(to).await });
        }
    }

    /// Whom an operator asks: mostly the leader of the first shard, else any process that is open.
    fn asked(&mut self) -> Option<u64> {
        let open = self.processes().filter(|machine| machine.queue().is_some());
        let open: Vec<u64> = open.map(|machine| machine.id).collect();
        let leader = self.leader();
        if open.is_empty() || self.rng.chance(600) { leader } else { Some(*self.rng.pick(&open)) }
    }

    /// Asks the engine of a node for something, whatever comes of it.
    fn ask_at<T: Send + 'static, F>(&self, node: u64, ask: impl FnOnce(Queue) -> F) -> Option<JoinHandle<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let machine = self.machines.get(&node)?;
        Some(machine.handle()?.spawn(ask(machine.queue()?)))
    }

    /// The nodes that a new one is told of.
    pub(crate) fn told(&self, without: u64) -> Vec<ClusterNode> {
        let others = self.members().filter(|machine| machine.id != without);
        others.map(|machine| ClusterNode { id: machine.id, address: address(machine.id) }).collect()
    }

    fn replace(&mut self, old: u64) {
        let new = self.next_id;
        self.next_id += 1;
        let told = self.told(old);
        self.retire(old);
        self.add_machine(new, told);
        self.errand_is(Step::Replace(old, new));
    }

    /// The machine is lost for ever.
    fn retire(&mut self, id: u64) {
        self.desk.web.set(id, None);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.disk.wipe();
            machine.kill();
            machine.is_retired = true;
        }
    }

    fn close(&mut self) {
        self.heal();
        let Some(asked) = self.asked() else { return };
        if let Some(closing) = self.ask_at(asked, |queue| async move { queue.close().await }) {
            self.errand_is(Step::Close(closing));
        }
    }

    /// All disks are lost. What the bucket had of each partition is what may be expected of it.
    fn restore(&mut self) {
        self.heal();
        self.lose_all_disks(true);
    }

    fn lose_all_disks(&mut self, expects_refusal: bool) {
        let ids: Vec<u64> = self.members().map(|machine| machine.id).collect();
        for id in ids {
            self.retire(id);
        }
        // What is lost was readable at gateways: whoever loses it stops them. Where nothing is lost some are still there when the
        // cluster is another one.
        let gateways: Vec<u64> =
            self.processes().filter(|machine| machine.is_gateway()).map(|machine| machine.id).collect();
        for id in gateways {
            if expects_refusal || self.rng.chance(500) {
                self.kill(id, AGAIN);
            }
        }
        let founder = self.next_id;
        self.next_id += 1;
        self.add_machine(founder, Vec::new());
        self.errand_is(Step::Found { founder, expects_refusal });
    }

    /// What is under way goes on.
    pub(crate) fn run_errand(&mut self) {
        let Some(errand) = self.errand.take() else { return };
        let Errand { step, since, asked, asks_at } = errand;
        match step {
            Step::Drain(node, off) if self.now > since + AGAIN => self.kill(node, off),
            Step::Drain(..) => self.errand = Some(Errand { step, since, asked, asks_at }),
            Step::Close(closing) => self.closing(closing, since),
            Step::Found { founder, expects_refusal } => self.founding(founder, expects_refusal, since),
            Step::Replace(..) | Step::Grow(_) => self.change(Errand { step, since, asked, asks_at }),
        }
    }

    fn closing(&mut self, closing: JoinHandle<Result<()>>, since: Millis) {
        if closing.is_finished() {
            if matches!(self.take_any(closing), Some(Ok(()))) {
                self.trace.count("closed", "");
                self.lose_all_disks(false);
            } else {
                self.start_all_again();
            }
        } else if self.now > since + CLOSE_PATIENCE {
            self.start_all_again();
        } else {
            self.errand = Some(Errand { step: Step::Close(closing), since, asked: None, asks_at: self.now });
        }
    }

    fn take_any<T>(&self, task: JoinHandle<T>) -> Option<T> {
        task.now_or_never()?.ok()
    }

    /// A cluster that is closed is opened by starting it again.
    fn start_all_again(&mut self) {
        let ids: Vec<u64> = self.members().map(|machine| machine.id).collect();
        for id in ids {
            self.kill(id, 100);
        }
    }

    fn founding(&mut self, founder: u64, expects_refusal: bool, since: Millis) {
        let (now, died, is_open) = {
            let machine = &self.machines[&founder];
            let refused = machine.starts_at.is_some();
            (self.now, refused && now_is_later(self.now, since), machine.queue().is_some())
        };
        let again = |expects_refusal, since| {
            let step = Step::Found { founder, expects_refusal };
            Some(Errand { step, since, asked: None, asks_at: now })
        };
        if is_open {
            if expects_refusal {
                self.problems
                    .push("a bucket that was not closed was taken without being told to lose records".to_owned());
            }
            let more: Vec<u64> = (0..self.profile.knobs.nodes - 1).map(|more| self.next_id + more).collect();
            self.next_id += more.len() as u64;
            let told = self.told(0);
            for id in &more {
                self.add_machine(*id, told.clone());
            }
            self.errand_is(Step::Grow(more));
        } else if died && expects_refusal {
            self.trace.count("unclean bucket refused", "");
            self.note_cut();
            self.set_aside();
            if let Some(machine) = self.machines.get_mut(&founder) {
                machine.restore = true;
            }
            self.errand = again(false, now);
        } else if now > since + START_PATIENCE {
            self.problems.push("a start from the bucket did not come to an end".to_owned());
        } else {
            if died {
                // A flush of a process that is gone may have arrived since.
                self.set_aside();
            }
            self.errand = again(expects_refusal, since);
        }
    }

    /// What an operator does who is told that a shard's records are there without a checkpoint, and who does not want a rebuild:
    /// of these records none was in the bucket as far as anybody knew.
    fn set_aside(&self) {
        let keys = bucket::of_no_checkpoint(&self.store.objects());
        if !keys.is_empty() {
            self.trace.count("segments without a checkpoint set aside", "");
            self.store.set_aside(&keys);
        }
    }

    fn note_cut(&mut self) {
        let kept = bucket::flushed(&self.store.objects());
        let mut history = self.desk.history();
        let at = history.stamp();
        history.cuts.push(Cut { at, kept });
    }

    /// Asks for a change of the members until it is done.
    fn change(&mut self, mut errand: Errand) {
        if let Some(asked) = errand.asked.take_if(|asked| asked.is_finished()) {
            let answer = self.take_any(asked);
            if let Some(Err(error)) = &answer {
                self.trace.note("change", format_args!("{:?} {}", error.kind(), error.code()));
            }
            let is_done = match &answer {
                Some(Ok(_)) => true,
                Some(Err(error)) => error.kind() == ErrorKind::NotFound,
                None => false,
            };
            if is_done {
                errand.step = match errand.step {
                    Step::Grow(mut more) => {
                        more.remove(0);
                        if more.is_empty() {
                            return;
                        }
                        Step::Grow(more)
                    }
                    _ => return,
                };
            }
        }
        if self.now > errand.asks_at + 20 * AGAIN {
            // Whoever was asked is gone, or does not answer.
            errand.asked = None;
        }
        if errand.asked.is_none() && self.now > errand.asks_at + AGAIN {
            errand.asks_at = self.now;
            errand.asked = self.asked().and_then(|asked| match &errand.step {
                Step::Replace(old, new) => {
                    let (old, new) = (NodeId(*old), NodeId(*new));
                    let at = address(new.0);
                    self.ask_at(asked, |queue| async move { queue.replace_node(old, new, at).await })
                }
                Step::Grow(more) => {
                    let new = NodeId(*more.first()?);
                    let at = address(new.0);
                    self.ask_at(asked, |queue| async move { queue.add_node(new, at).await })
                }
                _ => None,
            });
        }
        self.errand = Some(errand);
    }
}

/// A machine that was just added is about to start too.
fn now_is_later(now: Millis, since: Millis) -> bool {
    now > since + 200
}
