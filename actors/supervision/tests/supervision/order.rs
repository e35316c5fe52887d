//! Who starts after whom, and who stops before whom.

use dotmac_supervision::{ChildSpec, Lifeline, Reason, Serving, State, SupervisionTree, TreeError};

use crate::support::*;

/// Notes when it starts, when it is asked to stop and when it is gone; takes its time over both.
fn diarist(
    name: &'static str,
    diary: &Diary,
) -> impl Fn(Lifeline) -> Probe + Send + Sync + 'static {
    let diary = diary.clone();
    move |life| {
        let (starting, stopping, gone) = (diary.clone(), diary.clone(), diary.clone());
        Probe::starting(life, move |_, context| {
            use actix::AsyncContext;
            context.run_later(ms(60), move |probe, _| {
                starting.note(format!("{name} ready"));
                probe.life.ready(Serving::default());
            });
        })
        .on_shutdown(move |_, context| {
            use actix::{ActorContext, AsyncContext};
            stopping.note(format!("{name} asked"));
            context.run_later(ms(60), |_, context| context.stop());
        })
        .on_drop(move || gone.note(format!("{name} gone")))
    }
}

#[test]
fn children_start_after_those_they_need_and_stop_before_them() {
    run(async {
        let diary = Diary::default();
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let secrets = tree
            .add(ChildSpec::new("secrets", diarist("secrets", &diary)))
            .unwrap();
        let db = ChildSpec::new("db", diarist("db", &diary)).needs(secrets.on_change());
        let db = tree.add(db).unwrap();
        let mail = ChildSpec::new("mail", diarist("mail", &diary)).needs(db.in_order());
        tree.add(mail).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        let report = supervisor.halt().await;
        let expected = [
            "secrets ready",
            "db ready",
            "mail ready",
            "mail asked",
            "mail gone",
            "db asked",
            "db gone",
            "secrets asked",
            "secrets gone",
        ];
        assert_eq!(diary.entries(), expected);
        let names: Vec<_> = report.children.iter().map(|child| child.name).collect();
        assert_eq!(names, ["mail", "db", "secrets"]);
        assert!(
            report
                .children
                .iter()
                .all(|child| child.took >= ms(60) && !child.abandoned)
        );
    });
}

#[test]
fn a_child_waits_while_what_it_needs_does_not_serve() {
    run(async {
        let mut tree = SupervisionTree::new(policy()).unwrap();
        let db = ChildSpec::new("db", |life| {
            Probe::starting(life, |probe, _| probe.life.unavailable(Reason::UNREACHABLE))
        });
        let db = tree.add(db).unwrap();
        let files = ChildSpec::new("files", Probe::new).needs(db.on_change());
        tree.add(files).unwrap();
        let after = ChildSpec::new("after", Probe::new).needs(db.in_order());
        tree.add(after).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "after", 1).await;
        let files = supervisor.board().component("files").unwrap().clone();
        assert_eq!((files.state, files.generation), (State::Waiting, 0));
        assert_eq!(files.reason, Some(Reason::DEPENDENCY));
        supervisor.halt().await;
    });
}

#[test]
fn a_word_said_inside_the_factory_opens_the_handle() {
    run(async {
        let factory = |life: Lifeline| {
            life.ready(Serving::default());
            Probe::silent(life)
        };
        let (supervisor, probe) = lone(policy(), factory);
        ready(&supervisor).await;
        until("the handle to open", || probe.is_serving()).await;
        assert_eq!(probe.call(Ping).await, Ok(1));
        supervisor.halt().await;
    });
}

#[test]
fn a_need_of_another_tree_is_refused() {
    let mut one = SupervisionTree::new(policy()).unwrap();
    let mut other = SupervisionTree::new(policy()).unwrap();
    let foreign = one.add(ChildSpec::new("a", Probe::new)).unwrap();
    let refused = other.add(ChildSpec::new("b", Probe::new).needs(foreign.always()));
    assert!(
        matches!(refused, Err(TreeError::ForeignNeed("b"))),
        "{refused:?}"
    );
}

#[test]
fn a_second_child_of_one_name_is_refused() {
    let mut tree = SupervisionTree::new(policy()).unwrap();
    tree.add(ChildSpec::new("a", Probe::new)).unwrap();
    let refused = tree.add(ChildSpec::new("a", Probe::new));
    assert!(
        matches!(refused, Err(TreeError::DuplicateName("a"))),
        "{refused:?}"
    );
}

#[test]
fn a_start_is_part_of_the_span_in_which_it_is_begun_or_has_one_of_its_own() {
    run(async {
        for (name, outer) in [
            ("begun_alone", tracing::Span::none()),
            ("begun_in_another", tracing::info_span!("outer")),
        ] {
            let mut tree = SupervisionTree::new(policy()).unwrap();
            tree.add(ChildSpec::new(name, Probe::new)).unwrap();
            let supervisor = outer.in_scope(|| tree.start());
            in_life(&supervisor, name, 1).await;
            supervisor.halt().await;
        }
        assert_eq!(start_spans("begun_alone"), ["start component", "startup"]);
        assert_eq!(
            start_spans("begun_in_another"),
            ["start component", "outer"]
        );
    });
}
