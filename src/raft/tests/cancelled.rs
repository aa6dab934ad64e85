//! Checkpoints whose taking over is given up: by a leadership that ends, and one that begins.

use std::sync::mpsc;

use super::*;

/// Holds the only thread that may block, until the sender is dropped.
fn occupy() -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    drop(tokio::task::spawn_blocking(move || held.recv()));
    release
}

fn with_one_blocking_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(test);
}

fn is_free(node: &RaftNode) -> bool {
    node.inner.adopting.try_lock().is_ok()
}

/// Begins `taking_over`, which needs the disk, and gives it up while it waits for it.
async fn give_up(node: &RaftNode, taking_over: impl Future<Output = crate::error::Result<()>>) {
    let mut taking_over = Box::pin(taking_over);
    while is_free(node) {
        assert!(futures::poll!(taking_over.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    // Up to the disk.
    for _ in 0..10 {
        assert!(futures::poll!(taking_over.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
}

/// Two at once would write the same temporary files, and the one would remove what the other relies on.
#[test]
fn a_checkpoint_that_is_given_up_while_it_is_written_keeps_the_next_one_waiting() {
    with_one_blocking_thread(async {
        let dir = tempfile::tempdir().unwrap();
        let node = run(options(dir.path(), new())).await;
        node.propose(create_topic()).await.unwrap();
        node.propose(append(1_000)).await.unwrap();
        let (flushed, files) = flush(&node, node.status().term);

        let disk = occupy();
        give_up(&node, node.stage_checkpoint(&files)).await;
        assert!(!is_free(&node), "its files are not written yet");
        drop(disk);
        // It is not one that has to be repeated.
        node.stage_checkpoint(&CheckpointFiles { parts: Vec::new(), ranges: Vec::new(), ..files.clone() })
            .await
            .unwrap();

        node.propose(control(flushed)).await.unwrap();
        let index = files.reference.index;
        let disk = occupy();
        give_up(&node, node.adopt_checkpoint(files)).await;
        assert!(!is_free(&node), "the pointer is not written yet");
        drop(disk);
        drop(node.inner.adopting.lock().await);
        assert_eq!(node.status().checkpoint, Some(index), "what was begun was done");
        node.shutdown().await;
    });
}
