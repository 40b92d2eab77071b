//! Credentials of registries: in memory alone, and no longer than needed.

use shef_common::{
    ids::Revision,
    image::ImageRef,
    registry::{Credentials, RegistryHost},
    spec::Template,
};

use super::bench::{Bench, assignment};

fn order(bench: &mut Bench, set: &[(u32, &str)], remove: &[u32], password: Option<&str>) {
    let set = set.iter().map(|&(number, image)| {
        let mut assignment = assignment(number);
        assignment.template = Template::of(ImageRef::parse(image).unwrap()).into();
        assignment
    });
    let credentials =
        password.map(|password| Credentials { username: "me".into(), password: password.into() });
    let credentials = credentials.map(|known| (RegistryHost::parse("a.b:5000").unwrap(), known));
    let base = (bench.revision > 0).then_some(Revision(bench.revision));
    bench.order(base, set.collect(), remove, credentials.into_iter().collect());
    bench.settle();
}

fn shown(bench: &Bench, image: &str) -> Option<String> {
    bench.core.credentials(&ImageRef::parse(image).unwrap()).map(|shown| shown.password.clone())
}

#[test]
fn a_registry_is_shown_what_the_latest_push_of_its_images_brought() {
    let mut bench = Bench::new();
    order(&mut bench, &[(0, "a.b:5000/app:1")], &[], Some("first"));
    assert_eq!(shown(&bench, "a.b:5000/other").as_deref(), Some("first"));
    assert_eq!(shown(&bench, "app:1"), None, "of another registry");
    order(&mut bench, &[(1, "a.b:5000/app:1")], &[], Some("second"));
    assert_eq!(shown(&bench, "a.b:5000/app:1").as_deref(), Some("second"));
    order(&mut bench, &[(2, "elsewhere")], &[], None);
    assert_eq!(
        shown(&bench, "a.b:5000/app:1").as_deref(),
        Some("second"),
        "nothing of that registry was pushed"
    );
    order(&mut bench, &[(3, "a.b:5000/app:1")], &[], None);
    assert_eq!(shown(&bench, "a.b:5000/app:1"), None, "the master has none any more");
}

#[test]
fn credentials_go_with_the_last_replica_of_their_registry() {
    let mut bench = Bench::new();
    order(&mut bench, &[(0, "a.b:5000/app:1"), (1, "elsewhere")], &[], Some("word"));
    order(&mut bench, &[], &[0], None);
    order(&mut bench, &[], &[], None);
    assert_eq!(shown(&bench, "a.b:5000/app:1"), None);
}

#[test]
fn credentials_are_neither_in_the_ledger_nor_in_what_is_printed() {
    let mut bench = Bench::new();
    order(&mut bench, &[(0, "a.b:5000/app:1")], &[], Some("unprintable"));
    assert_eq!(shown(&bench, "a.b:5000/app:1").as_deref(), Some("unprintable"));
    assert!(!format!("{:?}", bench.disk).contains("unprintable"));
    assert!(!format!("{:?}", bench.core).contains("unprintable"));
}
