use super::*;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::policy::FileSet;

/// What requests share, over an empty folder; nothing is loaded.
fn app(folder: &tempfile::TempDir) -> App {
    let data = folder.path().to_str().unwrap().to_owned();
    let env = move |name: &str| match name {
        "PENSTOCK_DATA_DIR" => Some(data.clone()),
        "PENSTOCK_WORKERS" => Some("1".to_owned()),
        _ => None,
    };
    let settings = Bootstrap::parse("penstock.toml", b"", &env).unwrap();
    crate::run::app(settings, &prometheus::Registry::new()).unwrap()
}

fn policy(load: &str) -> Policy {
    let text = format!("[deadlines]\nrequest = \"1m\"\n[load]\n{load}");
    Policy::from_files(&FileSet::of([("resilience.toml", text)])).unwrap().0
}

/// A search under this policy that may be answered in the mode `cap` at best.
fn search(app: &App, load: &str, cap: Mode) -> Context {
    let mut ctx = Context::new(app);
    ctx.policy = policy(load).into();
    ctx.decision.route = Endpoint::Search;
    ctx.cap = cap;
    ctx
}

#[test]
fn a_calm_engine_does_everything_and_a_capped_request_gets_less() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(&folder);
    let mut calm = search(&app, "", Mode::Full);
    let step = app.ladder.enter(&app, &mut calm, true).unwrap();
    assert_eq!(step.most(), &AtMost::default());
    step.answered(&app, &calm.policy, 0);
    assert!(calm.decision.ladder.is_none() && !app.ladder.prefers_stale(&app, &calm));

    for (stale, mode) in [(true, Mode::Stale), (false, Mode::Popular)] {
        let mut capped = search(&app, "", Mode::Stale);
        assert!(app.ladder.prefers_stale(&app, &capped));
        let step = app.ladder.enter(&app, &mut capped, stale).unwrap();
        assert_eq!(step.most().mode, mode);
        assert!(step.most().why.starts_with("limit: "));
        let rung = capped.decision.ladder.take().unwrap();
        assert_eq!((rung.mode, rung.why), (mode.name(), "limit"));
    }
    assert_eq!(app.ladder.status(&app).answers, 0);
}

#[test]
fn nobody_is_let_in_where_there_is_no_room_but_for_an_older_answer() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(&folder);
    let mut ctx = search(&app, "refuse = 1\n", Mode::Full);
    let mut steps = Vec::new();
    let refused = loop {
        match app.ladder.enter(&app, &mut ctx, false) {
            Ok(step) => steps.push(step),
            Err(refused) => break refused,
        }
        assert!(steps.len() < 100);
    };
    let modes: Vec<Mode> = steps.iter().map(|step| step.most().mode).collect();
    assert!(modes.is_sorted() && modes[0] == Mode::Full, "{modes:?}");
    assert_eq!((refused.kind, refused.retry_after), (Kind::Overloaded, Some(RETRY_AFTER)));
    assert_eq!(ctx.decision.ladder.take().unwrap().mode, "refused");
    assert!(app.ladder.prefers_stale(&app, &ctx));
    let old = app.ladder.enter(&app, &mut ctx, true).unwrap();
    assert_eq!(old.most().mode, Mode::Stale);
    let background = || app.ladder.try_background(&app, &ctx.policy, Endpoint::Search);
    assert!(background().is_none());
    drop((steps, old));
    assert!(background().is_some());
    assert!(app.ladder.try_background(&app, &ctx.policy, Endpoint::Events).is_none());
    ctx.decision.ladder = None;
    let step = app.ladder.enter(&app, &mut ctx, false).unwrap();
    assert_eq!(step.most().mode, Mode::Full);
}
