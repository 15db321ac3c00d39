//! Work with the disk, off the threads that serve.

use std::io;

/// Does the work on a thread for such; a panic there is an error here.
pub(crate) async fn blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.map_err(|error| E::from(io::Error::other(error)))?
}
