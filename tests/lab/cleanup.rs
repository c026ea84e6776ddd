//! `hotpair cleanup` on a real site.

use anyhow::Result;
use hotpair_tests::lab::{Lab, PAIR};
use hotpair_tests::netns::run;

fn links_and_pins(lab: &Lab) -> Result<(String, String)> {
    let links = run(lab.host().netns().command("ip").args(["-br", "link"]))?;
    let pins =
        run(lab.host().netns().command("find").arg(lab.dir().join("bpf/hotpair")).args(["-type", "f"]));
    Ok((links, pins.unwrap_or_default()))
}

#[test]
fn cleanup_is_refused_under_a_controller_and_leaves_nothing_after_it() -> Result<()> {
    if !crate::may_run("cleanup_is_refused_under_a_controller_and_leaves_nothing_after_it") {
        return Ok(());
    }
    let mut lab = Lab::builder().start()?;
    lab.wait_protected()?;
    let before = links_and_pins(&lab)?;
    let cleanup = ["cleanup", "--members"];
    let refused = lab.hotpair(&cleanup)?;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("a controller runs on "), "{refused:?}");
    assert_eq!(links_and_pins(&lab)?, before, "a refusal changes nothing");

    lab.stop_controller()?;
    let (links, pins) = links_and_pins(&lab)?;
    assert!(links.contains("hpwebs0") && pins.contains("/links/uplink"), "{links}{pins}: it only stopped");
    let done = lab.hotpair(&cleanup)?;
    assert_eq!(done.code, 0, "{done:?}");
    for slot in [0, 1] {
        assert!(
            done.stdout.contains(&format!("removed member {slot} of {PAIR}, generation 1\n")),
            "{done:?}"
        );
        assert!(lab.machine(slot).is_err(), "the member in slot {slot} still runs");
    }
    let (links, pins) = links_and_pins(&lab)?;
    assert!(!links.contains("hpweb") && pins.is_empty(), "{links}{pins}");
    assert_eq!(std::fs::read_dir(lab.dir().join("volumes"))?.count(), 0);

    let again = lab.hotpair(&cleanup)?;
    assert_eq!((again.code, again.stdout.as_str()), (0, "nothing was there\n"), "{again:?}");
    Ok(())
}
