//! Whether there is room for a group: between journal and tables, and in the file if it has a bound.

use std::sync::atomic::Ordering;

use mainstay_core::{
    Error, ErrorKind,
    engine::{
        change::{AfterChange, Change, EventChange},
        locks::change::LockChange,
    },
    op::Reply,
    schedule::ScheduleChange,
};

use mainstay_writer::writer::Group;

use crate::{
    behind::NoRoom,
    connection::PAGE_BYTES,
    fault::{Fault, Result},
    ground::Disk,
};

/// What a job takes in the file beside its body, in bytes, generously: its row, its places in the indexes.
const ROW_BYTES: u64 = 512;

/// What it takes that a job waits for another.
const EDGE_BYTES: usize = 48;

impl Disk<'_> {
    /// Waits until the tables have followed far enough.
    pub(crate) fn has_room(&self, group: &mut Group) -> Result<()> {
        let behind = &self.shared.behind;
        match behind.room() {
            Ok(()) => {}
            Err(NoRoom::Over) => return Err(Fault::fatal(self.shared.gone())),
            Err(NoRoom::Stuck(cause)) => {
                group.no_room = true;
                let message = format!(
                    "{} bytes are in the journal of the store {} and cannot be brought into its tables: {cause}",
                    behind.journal_bytes(),
                    self.shared.path.display()
                );
                return Err(Fault::clean(Error::new(ErrorKind::Unavailable, message).because(cause)));
            }
        }
        let Some(most) = self.shared.max_file_bytes else { return Ok(()) };
        if self.growth == 0 || self.fits(most) {
            return Ok(());
        }
        // What has left may not have left the tables yet.
        behind.wait_for(behind.handed());
        if self.fits(most) {
            return Ok(());
        }
        let message =
            format!("the store {} is full: it has at most {most} bytes", self.shared.path.display());
        Err(Fault::clean(Error::new(ErrorKind::Unavailable, message)))
    }

    fn fits(&self, most: u64) -> bool {
        let used = self.shared.stats.used_bytes.load(Ordering::Relaxed);
        used + self.shared.behind.growth() + self.growth <= most
    }
}

/// How much larger a change makes the file at most, roughly.
pub(crate) fn growth(change: &Change) -> u64 {
    let bytes = match change {
        Change::JobPut { body: Some(body), .. } => body.size(),
        Change::Result { result, .. } => result.len(),
        Change::Progress { progress, .. } => progress.len(),
        Change::Failure { record, .. } => {
            let failure = &record.failure;
            failure.message.len() + failure.backtrace.as_ref().map_or(0, |backtrace| backtrace.len())
        }
        Change::After(AfterChange::Opened { on, .. }) => on.len() * EDGE_BYTES,
        Change::Keyed { replies, .. } => {
            replies.iter().map(Reply::pieces).sum::<usize>() * ROW_BYTES as usize
        }
        Change::Audit { record, .. } => record.detail.len(),
        Change::Lock(LockChange::Granted(_) | LockChange::Queued(_)) => 0,
        Change::Event(EventChange::Published { event, .. }) => event.size(),
        Change::Event(EventChange::Died { letter, .. }) => letter.place.size as usize,
        Change::Event(EventChange::Topic { config, .. }) => {
            config.schema.as_ref().map_or(0, |schema| schema.len())
        }
        Change::Event(EventChange::Delivery { new: true, .. } | EventChange::Group(_)) => 0,
        Change::Schedule(ScheduleChange::Put(record)) => record.schedule.size(),
        Change::Queue { .. } | Change::Policy { .. } | Change::Unique { .. } | Change::AccessToken(_) => 0,
        _ => return 0,
    } as u64;
    // What is long takes pages of its own.
    let page = u64::from(PAGE_BYTES);
    ROW_BYTES + if bytes > page / 8 { bytes.div_ceil(page - 4) * page } else { bytes }
}
