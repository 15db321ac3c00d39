//! CPU work beside async I/O.

/// Runs CPU work on rayon's threads, so that the async threads stay free for I/O.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        let _ = send.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
    });
    match receive.await {
        Ok(Ok(value)) => value,
        // A panic in our own arithmetic is a bug; it must surface where the work was asked for.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(closed) => std::panic::resume_unwind(Box::new(closed)),
    }
}
