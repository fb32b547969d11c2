//! One run of a job at a time, one leader, and what becomes of those who die.

use super::{Shop, of_every_store};
use crate::stores::{event, import, open, product, settings};
use crossbeam_channel::bounded;
use penstock_engine::jobs::schedule::{self, News};
use penstock_engine::jobs::{Job, JobError};
use penstock_engine::store::jobs::JobStore;
use penstock_tests::wait::until_true;
use std::sync::Mutex;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

of_every_store! {
    a_job_that_runs_is_not_begun_twice;
    runs_are_noted_and_who_died_is_known;
    a_leader_runs_all_jobs_until_it_is_told_to_stop;
}

async fn a_job_that_runs_is_not_begun_twice(shop: &Shop) {
    let store = &*shop.store;
    let lock = store.try_lock("popularity").unwrap().expect("free");
    assert!(lock.is_held());
    assert!(store.try_lock("popularity").unwrap().is_none());
    assert!(store.try_lock("freshness").unwrap().is_some());
    let refused = shop.run(Job::Popularity, false).unwrap_err();
    assert!(matches!(refused, JobError::Busy("popularity")), "{refused}");
    assert!(refused.to_string().contains("runs already"), "{refused}");
    assert_eq!(store.runs(None, 9).unwrap(), []);
    drop(lock);
    for _ in 0..5 {
        shop.run(Job::Popularity, false).unwrap();
    }
}

async fn runs_are_noted_and_who_died_is_known(shop: &Shop) {
    let store = &*shop.store;
    import(store, &[product("a", "A")], &[event("1", "u", "a", 0)]);
    store.run_began("popularity", "dead", 5_000_000).unwrap();
    let [run] = &store.runs(None, 9).unwrap()[..] else { panic!() };
    assert_eq!((run.started_micros, &run.outcome, &*run.instance), (5_000_000, &None, "dead"));
    shop.run(Job::Popularity, false).unwrap();
    shop.run(Job::Maintenance, false).unwrap();
    let runs = store.runs(None, 9).unwrap();
    let outcomes: Vec<_> =
        runs.iter().map(|run| (&*run.job, run.outcome.as_deref().unwrap())).collect();
    assert_eq!(outcomes, [("maintenance", "done"), ("popularity", "done"), ("popularity", "died")]);
    assert_eq!(runs[1].detail["events"], 1);
    assert!(runs[1].finished_micros >= Some(runs[1].started_micros));
    assert_eq!(store.runs(Some("popularity"), 1).unwrap(), runs[1..2]);
    // A failed run says why. A file where the folder belongs is no folder.
    std::fs::write(shop.data().join("features"), "").unwrap();
    assert!(shop.run(Job::Snapshot, false).is_err());
    let last = store.runs(Some("feature_snapshot"), 1).unwrap().pop().unwrap();
    assert_eq!(last.outcome.as_deref(), Some("failed"));
    assert!(last.detail["error"].as_str().unwrap().contains("features"), "{}", last.detail);
}

async fn a_leader_runs_all_jobs_until_it_is_told_to_stop(shop: &Shop) {
    import(&*shop.store, &[product("a", "A")], &[event("1", "u", "a", 0)]);
    let data_dir = shop.data();
    let told = Mutex::new(Vec::new());
    let tell = |news: News<'_>| {
        let text = match news {
            News::Leads(leads) => format!("leads {leads}"),
            News::Ran(job, done) => format!("{} {}", job.name(), done.is_ok()),
            News::Trouble(error) => error.to_string(),
        };
        told.lock().unwrap().push(text);
    };
    let (running, stop) = bounded::<()>(0);
    let others_lock = shop.store.try_lock("leader").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| schedule::run(&|| shop.context(&data_dir, false), &stop, &tell));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(told.lock().unwrap().len(), 0, "somebody else leads");
        drop(others_lock);
        let deadline = penstock_config::clock::now() + PATIENCE;
        let ran = |job: Job| told.lock().unwrap().contains(&format!("{} true", job.name()));
        while !Job::ALL.into_iter().all(ran) {
            assert!(penstock_config::clock::now() < deadline, "{told:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(running);
    });
    let told = told.into_inner().unwrap();
    // Each once: none of them is due again.
    assert_eq!(told.len(), Job::ALL.len() + 2, "{told:?}");
    assert_eq!((&*told[0], &*told[told.len() - 1]), ("leads true", "leads false"));
    assert!(shop.store.try_lock("leader").unwrap().is_some());
}

#[tokio::test]
async fn a_lock_whose_connection_is_lost_is_lost_and_free_for_others() {
    let Some(shop) = Shop::of_postgres().await else { return };
    let server = shop.server.as_ref().unwrap();
    let other = open(&settings(&server.url("penstock"), &[], &[]));
    let held = shop.store.try_lock("leader").unwrap().expect("free");
    assert!(held.is_held() && other.try_lock("leader").unwrap().is_none());
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    server.sql(kill).await;
    until_true("it is free", PATIENCE, async || other.try_lock("leader").unwrap().is_some()).await;
    assert!(!held.is_held());
}
