//! The CPU executor: where statements are planned and run, apart from the threads that serve
//! sockets. Threads have large stacks, because planners recurse.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::error::{EngineError, Result};

/// Stack of a CPU thread. A statement of the allowed depth needs about a tenth in an unoptimised
/// build.
const STACK_BYTES: usize = 64 << 20;

/// Runs CPU work. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    runtime: Arc<Option<Runtime>>,
}

impl Executor {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(STACK_BYTES)
            .thread_name("azimuth-cpu")
            .enable_time()
            .build()
            .map_err(|error| EngineError::bug(format!("could not start CPU threads: {error}")))?;
        Ok(Self { runtime: Arc::new(Some(runtime)) })
    }

    /// Starts `work`; dropping the result aborts it at its next await.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Task<T> {
        let runtime = self.runtime.as_ref().as_ref();
        Task { handle: runtime.map(|runtime| runtime.spawn(work)) }
    }

    /// Does `work`, which is short, on the thread that asks for it.
    pub(crate) fn run_here<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
        // What a failed statement leaves behind is dropped with it.
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
    }

    /// Starts blocking work on a thread of its own.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Task<T> {
        let runtime = self.runtime.as_ref().as_ref();
        Task { handle: runtime.map(|runtime| runtime.spawn_blocking(work)) }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // A runtime must not be dropped inside another; the last owner may be an async task.
        if let Some(slot) = Arc::get_mut(&mut self.runtime)
            && let Some(runtime) = slot.take()
        {
            runtime.shutdown_background();
        }
    }
}

fn panicked() -> EngineError {
    EngineError::bug("the statement failed because of a bug in the server")
        .with_hint("The server goes on; its log holds the details.")
}

/// Work in progress.
#[derive(Debug)]
pub(crate) struct Task<T> {
    handle: Option<JoinHandle<Result<T>>>,
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(handle) = self.handle.as_mut() else {
            return Poll::Ready(Err(EngineError::bug("the executor is shut down")));
        };
        Pin::new(handle).poll(context).map(|joined| match joined {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(EngineError::cancelled()),
            Err(error) => {
                tracing::error!(%error, "a statement panicked");
                Err(panicked())
            }
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(Executor::run_here(|| Ok(7)).unwrap(), 7);
        let error = Executor::run_here(|| -> Result<()> { panic!("a bug") }).unwrap_err();
        assert!(error.to_string().contains("bug in the server"), "{error}");
    }
}
