//! One node: a machine with a disk and a clock, and on it a process that is a runtime of its own.
//!
//! Dropping the runtime ends every task of the process at once, as the end of a process does. The machine's disk outlives it.
//! All machines share a thread; each is given its time in turn ([`Machine::tick`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidelog::clock::Clock;
use tidelog::config::Config;
use tidelog::disk::{Disk, Mount, mount};
use tidelog::queue::{Options, Queue, Surroundings};
use tidelog_compactor::Worker;
use tidelog_gateway::{AdminHooks, InProcess};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::history::Millis;

/// What the process has told so far.
#[derive(Default)]
pub struct Room {
    /// Once it is open.
    pub queue: Option<Queue>,
    /// Once it serves.
    pub gateway: Option<InProcess>,
    /// Why it had to end.
    pub died: Option<String>,
}

/// See the module.
pub struct Machine {
    /// Its number.
    pub id: u64,
    /// Its settings.
    pub config: Config,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: Clock,
    /// When its process begins again, if it does not run.
    pub starts_at: Option<Millis>,
    /// Until when it is stopped.
    pub paused_until: Option<Millis>,
    /// Its next start from the bucket may lose something.
    pub restore: bool,
    /// It was taken out and does not start again.
    pub is_retired: bool,
    /// Of each shard the applied index at which the state of this process was hashed last.
    pub sampled: BTreeMap<u32, u64>,
    room: Arc<Mutex<Room>>,
    process: Option<Process>,
    _mount: Mount,
}

struct Process {
    runtime: Runtime,
    begun: Instant,
    ticks: Millis,
}

/// What an operator asks of a process, of which nothing is asked here.
struct Nothing;

impl AdminHooks for Nothing {
    fn set_log_filter(&self, _filter: &str) -> Result<(), String> {
        Ok(())
    }

    fn render_metrics(&self) -> String {
        String::new()
    }

    fn stop(&self) {}
}

impl Machine {
    /// A machine that is off, with an empty disk and a clock that is right at `wall`.
    #[must_use]
    pub fn new(id: u64, config: Config, wall: u64) -> Self {
        let disk = Disk::new();
        let mounted = mount(config.data_dir.clone(), &disk);
        Self {
            id,
            config,
            disk,
            clock: Clock::manual(wall),
            starts_at: None,
            paused_until: None,
            restore: false,
            is_retired: false,
            sampled: BTreeMap::new(),
            room: Arc::default(),
            process: None,
            _mount: mounted,
        }
    }

    /// Whether its process runs, stopped or not.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it keeps no log.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        !self.config.cluster.keeps_log()
    }

    /// What the process has told.
    pub fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine, if it is open.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        if self.is_on() { self.room().queue.clone() } else { None }
    }

    /// The process's runtime.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        self.process.as_ref().map(|process| process.runtime.handle().clone())
    }

    /// Begins the process.
    ///
    /// # Panics
    /// If the system has no room for a runtime.
    pub fn start(&mut self, surroundings: Surroundings) {
        let runtime = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        };
        let begun = runtime.block_on(async { Instant::now() });
        self.room = Arc::default();
        self.sampled.clear();
        let options = Options { config: self.config.clone(), clock: self.clock.clone(), restore: self.restore };
        runtime.spawn(process(options, surroundings, Arc::clone(&self.room)));
        self.process = Some(Process { runtime, begun, ticks: 0 });
        self.starts_at = None;
        self.paused_until = None;
    }

    /// Ends the process where it stands; the disk keeps all that was written.
    pub fn kill(&mut self) {
        // What tasks hold of each other in a circle would keep its files open.
        self.disk.release();
        *self.room() = Room::default();
        self.process = None;
    }

    /// The power goes: what was not synced may be gone.
    pub fn crash(&mut self, random: &mut dyn FnMut(u64) -> u64) {
        self.disk.crash(random);
        self.kill();
    }

    /// Time passes for the process: it does all that it has to do in it.
    pub fn tick(&mut self, millis: Millis) {
        self.clock.advance(millis);
        let Some(process) = &mut self.process else { return };
        process.ticks += millis;
        let until = process.begun + Duration::from_millis(process.ticks);
        process.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    /// Time passes while the process is stopped.
    pub fn skip(&mut self, millis: Millis) {
        self.clock.advance(millis);
    }

    /// The process goes on after having been stopped for so long: it finds that the time has jumped.
    pub fn resume(&mut self, after: Millis) {
        self.paused_until = None;
        let Some(process) = &mut self.process else { return };
        process.ticks += after;
        process.runtime.block_on(tokio::time::advance(Duration::from_millis(after)));
    }
}

/// What `tidelog serve` does: open, serve, convert, until something is fatal.
async fn process(options: Options, surroundings: Surroundings, room: Arc<Mutex<Room>>) {
    let lock = |room: &Arc<Mutex<Room>>, change: &dyn Fn(&mut Room)| {
        change(&mut room.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let config = options.config.clone();
    let queue = match Queue::open_within(options, surroundings).await {
        Ok(queue) => queue,
        Err(error) => return lock(&room, &|room| room.died = Some(format!("not opened: {error:?}"))),
    };
    let gateway = InProcess::new(queue.clone(), config.clone(), Arc::new(Nothing));
    lock(&room, &|room| (room.queue, room.gateway) = (Some(queue.clone()), Some(gateway.clone())));
    if config.archive.enabled {
        let (jobs, name) = (queue.archive_jobs(), queue.name());
        let worker = Worker::new(jobs, queue.bucket().clone(), name, config.archive.interval);
        tokio::spawn(worker.run(CancellationToken::new()));
    }
    let why = queue.fatal().await;
    lock(&room, &|room| room.died = Some(why.clone()));
}
