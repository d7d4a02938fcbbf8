//! A script behind tower's seam.

use std::{
    fmt::Debug,
    task::{Context, Poll},
};

use tower::Service;

use super::{Call, Script};

/// Always ready: what a client waits for is a step's delay or gate.
impl<A, T, E> Service<A> for Script<A, Result<T, E>>
where
    A: Debug + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Response = T;
    type Error = E;
    type Future = Call<Result<T, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[track_caller]
    fn call(&mut self, args: A) -> Call<Result<T, E>> {
        Script::call(self, args)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{secs, testing::block_on_virtual};

    #[test]
    fn a_script_is_a_tower_service() {
        block_on_virtual(async {
            let find = Script::<u64, Result<u32, ()>>::new().ok(1).delay(secs(3)).ok(2);
            let mut doubled = find.clone().map_response(|n| n * 2);
            assert_eq!(doubled.ready().await.unwrap().call(7).await, Ok(2));
            let late = timeout(secs(1), doubled.oneshot(8)).await;
            assert!(late.is_err());
            find.assert_cancelled_times(1);
            find.assert_calls([7, 8]);
        });
    }
}
