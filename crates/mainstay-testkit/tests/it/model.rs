use crate::harness::Memory;

#[test]
fn the_memory_store_keeps_every_invariant() {
    mainstay_testkit::model::run(Memory::new);
}

#[test]
fn events_of_the_memory_store_keep_every_invariant() {
    mainstay_testkit::model::run_events(Memory::new);
}
