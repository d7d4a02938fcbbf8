//! A login handler logs twice; the request id is on both lines because the context is, not because anybody put it
//! there.

use mainstay::{
    Context, Result, TaskSet,
    context::RequestId,
    log::{self, Format, Options, Output},
    millis,
    testing::block_on_virtual,
};
use tokio::time::{Instant, sleep};

fn main() -> Result<()> {
    // One call: `tracing`, the `log` facade, panics. In a service `App` makes it.
    let _log = log::init(Options::new().format(Format::Plain).output(Output::Stdout))?;
    // What the pipeline does for every request.
    let request = Context::default().with_request_id(RequestId::parse("req-001").ok_or("not a sane id")?);
    block_on_virtual(request.scope(login(42)))
}

async fn login(user_id: u64) -> Result<()> {
    let began = Instant::now();
    sleep(millis(10)).await; // asking the database
    let duration_ms = began.elapsed().as_secs_f64() * 1000.0;
    tracing::info!(user_id, action = "login", duration_ms);

    // Inherited by whatever is spawned.
    let tasks = TaskSet::current().ok_or("not in a runtime")?;
    tasks.spawn("status", async { tracing::info!(status = "success") }).await?;
    Ok(())
}
