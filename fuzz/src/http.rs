#[path = "../../server/mainstay-server/tests/it/fuzz/judge.rs"]
pub mod judge;
#[path = "../../server/mainstay-server/tests/it/fuzz/make.rs"]
pub mod make;
#[path = "../../server/mainstay-server/tests/it/fuzz/spoil.rs"]
mod spoil;
#[path = "../../server/mainstay-server/tests/it/fuzz/world.rs"]
pub mod world;
