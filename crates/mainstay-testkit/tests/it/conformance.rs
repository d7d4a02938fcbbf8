use crate::harness::Memory;

mainstay_testkit::conformance!(Memory::new());
