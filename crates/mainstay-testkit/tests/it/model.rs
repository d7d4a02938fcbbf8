use crate::harness::Memory;

#[test]
fn the_memory_store_keeps_every_invariant() {
    mainstay_testkit::model::run(Memory::new);
}
