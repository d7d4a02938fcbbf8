//! Without the test kit, every app plays on the machine.

#[derive(Clone, Default)]
pub(crate) struct Stage(());

impl Stage {
    pub fn is_a_test(&self) -> bool {
        false
    }

    pub fn offer<T>(&self, _: T) {}
}
