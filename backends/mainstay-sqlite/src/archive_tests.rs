//! The archive against the shortest thing that does the same, while the tables follow at any distance; and the tables
//! against it, whatever shares a batch.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use mainstay_core::{
    Timestamp,
    engine::change::{Archive, Change, Counters, Extras, LiveJob, Phase, PolicyId},
    id::JobIds,
    job::{JobBody, JobState},
    name::Name,
    rules::mix,
};
use proptest::prelude::*;

use super::*;
use crate::{
    apply::Batch,
    behind::Handed,
    schema::migrate,
    tables::{Mark, Tables},
};

/// What there is, said plainly.
#[derive(Clone, Default)]
struct Model {
    live: BTreeMap<JobId, LiveJob>,
    finished: BTreeMap<FinishedKey, FinishedJob>,
}

struct World<'c> {
    archive: Recent<'c>,
    tables: Tables<'c>,
    model: Model,
    waiting: VecDeque<Handed>,
    ids: JobIds,
    lsn: u64,
    applied: u64,
    /// Numbers that only grow: of bodies, and of places.
    n: u64,
    f: u64,
    chance: u64,
}

impl World<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.chance = mix(self.chance, 1);
        (self.chance % bound.max(1) as u64) as usize
    }

    /// A group of a few changes, which may be taken back.
    fn group(&mut self) {
        let before = self.model.clone();
        self.archive.begin(self.lsn + 1, self.applied);
        let mut changes = vec![];
        for _ in 0..=self.below(6) {
            for change in self.some_changes() {
                self.archive.note(&change);
                changes.push(change);
            }
            self.compare();
        }
        if self.below(6) == 0 {
            for change in self.remove_queue() {
                self.archive.note(&change);
                changes.push(change);
            }
            self.compare();
        }
        if self.below(5) == 0 {
            self.archive.roll_back();
            self.model = before;
        } else {
            self.archive.commit();
            self.lsn += 1;
            let (lsn, counters) = (self.lsn, Counters { n: self.n, ..Counters::default() });
            self.waiting.push_back(Handed { lsn, counters, changes, bytes: 0, growth: 0 });
        }
        self.compare();
    }

    fn some_changes(&mut self) -> Vec<Change> {
        match self.below(8) {
            0..=2 => vec![self.enqueue()],
            3 | 4 => self.finish().into_iter().collect(),
            5 => self.trim(),
            6 => self.revive(),
            _ => self.delete().into_iter().collect(),
        }
    }

    fn enqueue(&mut self) -> Change {
        self.n += 1;
        let (queue, random) = (QueueId(self.below(2) as u32), self.n);
        let job = LiveJob {
            id: self.ids.next(1_000, &Name::new("q").unwrap(), random),
            n: self.n,
            run_at: Timestamp(1),
            created_at: Timestamp(1),
            queue,
            policy: PolicyId(0),
            attempt: 0,
            size: 1,
            crashes: 0,
            priority: 5,
            phase: Phase::Waiting,
            retrying: false,
            cancel_requested: false,
            has_extras: false,
        };
        self.model.live.insert(job.id, job);
        let body = Some(Arc::new(JobBody::new("k", "1")));
        Change::JobPut { job, extras: Extras::default(), settled: None, body }
    }

    fn finish(&mut self) -> Option<Change> {
        let at = self.below(self.model.live.len());
        let job = *self.model.live.values().nth(at)?;
        self.model.live.remove(&job.id);
        self.f += 1;
        let lane = Lane::ALL[self.below(3)];
        // Places of the lane of those with a time of their own come in any order.
        let f = if lane == Lane::Own { (self.below(50) as u64) << 14 | self.f } else { self.f };
        let key = FinishedKey { queue: job.queue, lane, f };
        let (state, finished_at) = (JobState::Completed, Timestamp(f as i64));
        let extras = Extras::default();
        let finished = FinishedJob { key, job, extras, state, reason: None, finished_at, settled: None };
        self.model.finished.insert(key, finished.clone());
        Some(Change::JobFinished(Arc::new(finished)))
    }

    /// As retention does: the oldest of a lane.
    fn trim(&mut self) -> Vec<Change> {
        let (queue, lane, many) = (QueueId(self.below(2) as u32), Lane::ALL[self.below(3)], self.below(5));
        let oldest = self.archive.oldest(queue, lane, many + 1).unwrap();
        let gone: Vec<_> = oldest.into_iter().take(many).collect();
        gone.iter().for_each(|gone| drop(self.model.finished.remove(&gone.key)));
        gone.into_iter().map(|gone| Change::FinishedRemoved(gone.into())).collect()
    }

    /// All of it goes, and it itself; from the next group on another has its number.
    fn remove_queue(&mut self) -> Vec<Change> {
        let queue = QueueId(self.below(2) as u32);
        let mut changes = Vec::new();
        for lane in Lane::ALL {
            let all = self.archive.oldest(queue, lane, 10_000).unwrap();
            all.iter().for_each(|gone| drop(self.model.finished.remove(&gone.key)));
            changes.extend(all.into_iter().map(|gone| Change::FinishedRemoved(gone.into())));
        }
        let live = self.model.live.extract_if(.., |_, job| job.queue == queue);
        changes.extend(live.map(|(id, job)| Change::JobRemoved { id, n: job.n }));
        changes.push(Change::QueueRemoved(queue));
        changes
    }

    fn any_finished(&mut self) -> Option<FinishedJob> {
        let at = self.below(self.model.finished.len());
        let key = *self.model.finished.keys().nth(at)?;
        self.model.finished.remove(&key)
    }

    fn revive(&mut self) -> Vec<Change> {
        let Some(finished) = self.any_finished() else { return vec![] };
        let FinishedJob { key, job, extras, settled, .. } = finished;
        self.model.live.insert(job.id, job);
        let gone = Change::FinishedRevived { key, id: job.id };
        vec![gone, Change::JobPut { job, extras, settled, body: None }]
    }

    fn delete(&mut self) -> Option<Change> {
        self.any_finished().map(|finished| Change::FinishedRemoved(finished.as_ref().into()))
    }

    /// The tables follow some groups, all in one batch.
    fn follow(&mut self, many: usize) {
        let mut batch = Batch::default();
        self.waiting.drain(..many).for_each(|group| batch.add(group));
        if batch.lsn > 0 {
            let mark = Mark { epoch: 1, lsn: batch.lsn, clean: false };
            self.tables.apply(&batch, &Counters::default(), mark).unwrap();
            self.applied = batch.lsn;
        }
    }

    fn compare(&mut self) {
        for finished in self.model.finished.values() {
            assert_eq!(self.archive.finished(finished.job.id).unwrap().as_ref(), Some(finished));
            assert!(self.archive.is_taken(finished.key).unwrap());
        }
        for id in self.model.live.keys() {
            assert_eq!(self.archive.finished(*id).unwrap(), None);
        }
        for (queue, lane) in (0..2).flat_map(|queue| Lane::ALL.map(|lane| (QueueId(queue), lane))) {
            for limit in [1, 3, 1_000] {
                let of_lane = |key: &FinishedKey| (key.queue, key.lane) == (queue, lane);
                let expected = self.model.finished.iter().filter(|(key, _)| of_lane(key)).take(limit);
                let expected: Vec<_> = expected.map(|(_, finished)| finished.as_ref()).collect();
                assert_eq!(self.archive.oldest(queue, lane, limit).unwrap(), expected);
            }
        }
    }

    /// With everything followed, the tables are what there is.
    fn tables_are_right(&mut self) {
        self.follow(self.waiting.len());
        let conn = self.tables.conn;
        let ids = |table: &str| -> BTreeSet<[u8; 16]> {
            let mut all = conn.prepare(&format!("SELECT id FROM {table}")).unwrap();
            all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(ids("job"), self.model.live.keys().map(|id| *id.as_bytes()).collect());
        assert_eq!(ids("finished"), self.model.finished.values().map(|f| *f.job.id.as_bytes()).collect());
        let mut bodies = conn.prepare("SELECT n FROM body").unwrap();
        let bodies: BTreeSet<u64> =
            bodies.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(|n| n.unwrap() as u64).collect();
        let jobs = self.model.live.values().chain(self.model.finished.values().map(|f| &f.job));
        assert_eq!(bodies, jobs.map(|job| job.n).collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_archive_and_the_tables_behind_it_say_what_is_true(seed: u64, groups in 1..60_usize) {
        let conn = Connection::open_in_memory().unwrap();
        let path = Path::new("a test");
        migrate(&conn, path).unwrap();
        let mut world = World {
            archive: recent(&conn, path).unwrap(),
            tables: Tables::new(&conn, path).unwrap(),
            model: Model::default(),
            waiting: VecDeque::new(),
            ids: JobIds::default(),
            lsn: 0,
            applied: 0,
            n: 0,
            f: 0,
            chance: seed,
        };
        for _ in 0..groups {
            world.group();
            if world.below(4) == 0 {
                let many = world.below(world.waiting.len() + 1);
                world.follow(many);
            }
        }
        world.tables_are_right();
        world.archive.begin(world.lsn + 1, world.applied);
        world.compare();
        prop_assert!(world.archive.is_empty());
    }
}
