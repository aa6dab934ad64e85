//! Work that may take a while or wait for a disk: on a thread where that is allowed.
//!
//! In a simulation, which has one thread, it is a task of its own on that thread: the order in which things happen must not
//! depend on the operating system's scheduler.

use tokio::task::JoinHandle;

/// Runs `work` to its end, also if nobody waits for it; to be called within a runtime.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if is_inline() { tokio::spawn(async move { work() }) } else { tokio::task::spawn_blocking(work) }
}

/// Runs a future whose steps may take a while to its end, also if nobody waits for it; to be called within a runtime.
pub fn spawn_future<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    if is_inline() {
        return tokio::spawn(work);
    }
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
}

/// Whether there are no threads but this one.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn is_inline() -> bool {
    false
}

/// Whether there are no threads but this one: see [`set_inline`].
#[cfg(feature = "simulation")]
#[must_use]
pub fn is_inline() -> bool {
    INLINE.with(std::cell::Cell::get)
}

/// Says that what is begun in this thread from now on may use no other, or that it may.
#[cfg(feature = "simulation")]
pub fn set_inline(inline: bool) {
    INLINE.with(|cell| cell.set(inline));
}

#[cfg(feature = "simulation")]
thread_local! {
    static INLINE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
