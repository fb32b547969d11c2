//! Order, failing sinks, events that no sink takes.

use super::*;

#[tokio::test]
async fn batches_leave_in_order_after_they_were_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { batch: 7, ..settings() });
    for n in 0..20 {
        spool.append(vec![event(&format!("{n:02}"), "u", -n)]).await.unwrap();
    }
    let sink = Recorder::default();
    let told = Mutex::new(Vec::new());
    let side = file::connect(spool.path(), &settings()).unwrap();
    let side = Mutex::new(side);
    let shipped = |part: &[Event]| {
        // The sink has them, and so has the spool still.
        for event in part {
            assert!(sink.ids().contains(&event.event_id));
            let there = "SELECT count(*) FROM waiting WHERE event_id = ?1";
            let side = side.lock().unwrap();
            let there: i64 = side.query_row(there, [&event.event_id], |row| row.get(0)).unwrap();
            assert_eq!(there, 1, "{} left before it was told of", event.event_id);
            told.lock().unwrap().push(event.event_id.clone());
        }
    };
    let mut sizes = Vec::new();
    loop {
        match spool.ship_once(&sink, &shipped).await.unwrap() {
            0 => break,
            some => sizes.push(some),
        }
    }
    assert_eq!(sizes, [7, 7, 6]);
    let expected: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    assert_eq!((sink.ids(), told.into_inner().unwrap()), (expected.clone(), expected));
    assert_eq!(spool.status().shipped, 20);
}

#[tokio::test]
async fn a_sink_that_fails_at_random_has_every_event_in_the_end_and_in_order() {
    fn perhaps(_: &[Event], _: usize) -> Result<(), StoreError> {
        if rand::random_bool(0.3) {
            return Err(StoreError::Unavailable("by chance".into()));
        }
        Ok(())
    }
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { batch: 60, ..settings() });
    let sink =
        Arc::new(Recorder { before: Some(perhaps), after: Some(perhaps), ..Recorder::default() });
    let shipping = tokio::spawn({
        let (spool, sink) = (spool.clone(), sink.clone());
        async move { spool.ship_to(&*sink, &|_| {}).await }
    });
    for n in 0..40 {
        spool.append(events(&format!("{n}"), 10)).await.unwrap();
    }
    until("all is shipped", || spool.status().shipped == 400).await;
    shipping.abort();
    let mut firsts: Vec<String> = Vec::new();
    for id in sink.ids() {
        if !firsts.contains(&id) {
            firsts.push(id);
        }
    }
    let expected: Vec<String> =
        (0..40).flat_map(|n| (0..10).map(move |k| format!("{n}-{k}"))).collect();
    assert_eq!(firsts, expected);
    assert_eq!(spool.status().waiting, 0);
}

#[tokio::test]
async fn the_loop_goes_on_after_an_outage_and_says_why_it_stood() {
    static DOWN: AtomicBool = AtomicBool::new(true);
    fn down(_: &[Event], _: usize) -> Result<(), StoreError> {
        if DOWN.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        Ok(())
    }
    let (_folder, spool) = fresh();
    let sink = Arc::new(Recorder { before: Some(down), ..Recorder::default() });
    let shipping = tokio::spawn({
        let (spool, sink) = (spool.clone(), sink.clone());
        async move { spool.ship_to(&*sink, &|_| {}).await }
    });
    spool.append(events("a", 3)).await.unwrap();
    until("it was tried several times", || sink.calls.load(Ordering::SeqCst) > 2).await;
    let error = spool.status().last_error.unwrap();
    assert!(error.contains("connection refused"), "{error}");
    assert_eq!(spool.status().waiting, 3);
    DOWN.store(false, Ordering::SeqCst);
    until("all is shipped", || spool.status().shipped == 3).await;
    until("the trouble is over", || spool.status().last_error.is_none()).await;
    shipping.abort();
}

#[tokio::test]
async fn a_sink_that_hangs_has_failed() {
    struct Hangs;
    impl Sink for Hangs {
        fn ship<'a>(&'a self, _: &'a [Event]) -> BoxFuture<'a, Result<(), StoreError>> {
            Box::pin(std::future::pending())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let short = Settings { ship_timeout: Duration::from_millis(10), ..settings() };
    let spool = open_with(&folder, short);
    spool.append(events("a", 3)).await.unwrap();
    let error = spool.ship_once(&Hangs, &|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("10ms"), "{error}");
    assert_eq!(spool.status().waiting, 3);
}

fn no_bad_ones(events: &[Event], _: usize) -> Result<(), StoreError> {
    match events.iter().find(|e| e.event_id.starts_with("bad")) {
        Some(bad) => Err(StoreError::Format(format!("{} cannot be stored", bad.event_id))),
        None => Ok(()),
    }
}

#[tokio::test]
async fn an_event_that_no_sink_takes_is_set_aside_alone() {
    let (folder, spool) = fresh();
    let mut all = events("good", 200);
    for (at, name) in [(0, "bad first"), (57, "bad"), (58, "bad too"), (203, "bad last")] {
        all.insert(at, event(name, "u", 5));
    }
    spool.append(all).await.unwrap();
    let sink = Recorder { before: Some(no_bad_ones), ..Recorder::default() };
    drain(&spool, &sink).await;
    let expected: Vec<String> = (0..200).map(|n| format!("good-{n}")).collect();
    assert_eq!(sink.ids(), expected);
    let calls = sink.calls.load(Ordering::SeqCst);
    assert!(calls < 80, "{calls} shipments");
    let status = spool.status();
    assert_eq!((status.waiting, status.shipped), (0, 200));
    assert_eq!((status.refused, status.set_aside, status.damaged), (4, 4, 0));
    let side = file::connect(spool.path(), &settings()).unwrap();
    let mut statement =
        side.prepare("SELECT event_id, why, reason FROM aside ORDER BY seq").unwrap();
    let kept: Vec<(String, String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let kept: Vec<_> = kept.iter().map(|(id, why, reason)| (&**id, &**why, &**reason)).collect();
    assert_eq!(kept[0], ("bad first", "refused", "bad first cannot be stored"));
    assert_eq!(kept.len(), 4);
    drop(statement);
    drop((side, spool));
    assert_eq!(open(&folder).status().set_aside, 4);
}

#[tokio::test]
async fn what_is_set_aside_is_bounded_and_never_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { max_refused: 3, ..settings() });
    let mut all = events("bad", 5);
    all.extend(events("good", 5));
    spool.append(all).await.unwrap();
    let sink = Recorder { before: Some(no_bad_ones), ..Recorder::default() };
    let error = spool.ship_once(&sink, &|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("3 events are set aside"), "{error}");
    let status = spool.status();
    assert_eq!((status.waiting, status.set_aside), (7, 3));
    // A sink that takes them after all gets them.
    let sink = Recorder::default();
    drain(&spool, &sink).await;
    assert_eq!(sink.once().len(), 7);
}
