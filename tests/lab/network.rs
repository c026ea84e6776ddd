//! Taps, announcements, probes and news of links, in namespaces of their own.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hotpair::network::{Announcer, LinkChange, LinkEvent, Network, NetworkError, Prober, TapSpec};
use hotpair_tests::lab::Lab;
use hotpair_tests::netns::{Netns, run};
use hotpair_tests::wait::wait_until;
use hotpair_tests::wire::Capture;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

const TAP: &str = "hpwebs0";

fn spec() -> TapSpec {
    TapSpec {
        name: TAP.to_string(),
        mtu: 1500,
        host_ip: Ipv4Addr::new(10, 78, 0, 1),
        member_ip: Ipv4Addr::new(10, 78, 0, 2),
        member_mac: [2, 0x68, 0x70, 1, 2, 3],
    }
}

/// Runs a future inside a namespace, as the controller would be, and fails rather than hang.
fn inside<T>(netns: &Netns, future: impl Future<Output = Result<T>>) -> Result<T> {
    let _inside = netns.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.context("it hangs")? })
}

fn ip_json(netns: &Netns, arguments: &str) -> Result<Vec<Value>> {
    let text = run(netns.command("ip").args(["-j", "-d"]).args(arguments.split_whitespace()))?;
    Ok(serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })?)
}

/// Every word of [`spec`], as iproute2 sees it.
fn assert_right(netns: &Netns) -> Result<()> {
    let link = &ip_json(netns, &format!("link show {TAP}"))?[0];
    assert_eq!(link["address"], "02:68:70:77:00:03");
    assert_eq!(link["mtu"], 1500);
    assert_eq!(link["txqlen"], 10_000);
    assert_eq!(link["qdisc"], "noqueue", "a tap queues by itself");
    assert_eq!(link["inet6_addr_gen_mode"], "none");
    assert!(link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP")), "{link}");
    let kind = &link["linkinfo"]["info_data"];
    assert_eq!(
        (&kind["type"], &kind["persist"], &kind["multi_queue"]),
        (&"tap".into(), &true.into(), &false.into())
    );

    let addresses = &ip_json(netns, &format!("addr show dev {TAP}"))?[0]["addr_info"];
    let addresses: Vec<_> = addresses
        .as_array()
        .context("addresses")?
        .iter()
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]))
        .collect();
    assert_eq!(addresses, ["10.78.0.1/32", "fe80::77:3/64"]);
    let text = run(netns.command("ip").args(["addr", "show", "dev", TAP]))?;
    assert!(text.contains("nodad") && !text.contains("tentative") && !text.contains("dadfailed"), "{text}");

    let routes = run(netns.command("ip").args(["route", "show", "dev", TAP]))?;
    let routes: Vec<_> = routes.lines().map(|line| line.replace("linkdown", "").trim().to_string()).collect();
    assert_eq!(routes, ["10.78.0.2 proto static scope link src 10.78.0.1"]);

    let neighbours = run(netns.command("ip").args(["neigh", "show", "dev", TAP, "nud", "permanent"]))?;
    let mut neighbours: Vec<_> = neighbours.lines().map(str::trim).collect();
    neighbours.sort_unstable();
    assert_eq!(
        neighbours,
        ["10.78.0.2 lladdr 02:68:70:01:02:03 PERMANENT", "fe80::77:1 lladdr 02:68:70:01:02:03 PERMANENT"]
    );
    for (key, value) in
        [("accept_ra", "0"), ("autoconf", "0"), ("disable_ipv6", "0"), ("accept_redirects", "0")]
    {
        let path = format!("/proc/sys/net/ipv6/conf/{TAP}/{key}");
        assert_eq!(run(netns.command("cat").arg(path))?.trim(), value, "{key}");
    }
    Ok(())
}

#[test]
fn taps_can_be_made_at_the_same_time() -> Result<()> {
    if !crate::may_run("taps_can_be_made_at_the_same_time") {
        return Ok(());
    }
    let host = Netns::create(&format!("hpmanytaps-{}", std::process::id()))?;
    inside(&host, async {
        let network = Network::open().await?;
        let mut all = tokio::task::JoinSet::new();
        for number in 0..16 {
            let network = network.clone();
            let spec = TapSpec {
                name: format!("hpmanys{number}"),
                member_ip: Ipv4Addr::new(10, 78, 1, number),
                ..spec()
            };
            all.spawn(async move {
                let tap = network.ensure_tap(&spec).await?;
                network.addresses().await?;
                Ok::<_, NetworkError>(tap)
            });
        }
        while let Some(made) = all.join_next().await {
            made?.context("one of many taps")?;
        }
        Ok(())
    })
}

#[test]
fn a_tap_is_made_as_it_must_be() -> Result<()> {
    if !crate::may_run("a_tap_is_made_as_it_must_be") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host();
    let link = inside(netns.netns(), async { Ok(Network::open().await?.ensure_tap(&spec()).await?) })?;
    assert_eq!((link.name.as_str(), link.mac, link.mtu), (TAP, hotpair_abi::GATEWAY_MAC, 1500));
    assert!(link.up && link.ethernet && !link.carrier, "{link:?}: nobody has plugged in");
    assert_right(netns.netns())
}

#[test]
fn whatever_has_drifted_is_put_right_and_the_device_stays() -> Result<()> {
    if !crate::may_run("whatever_has_drifted_is_put_right_and_the_device_stays") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host().netns();
    let ensure = || inside(netns, async { Ok(Network::open().await?.ensure_tap(&spec()).await?) });
    let made = ensure()?;
    for drift in [
        format!("link set {TAP} mtu 1400"),
        format!("link set {TAP} address 02:00:00:00:00:77"),
        format!("link set {TAP} txqueuelen 10"),
        format!("link set {TAP} addrgenmode eui64"),
        format!("link set {TAP} down"),
        format!("link set {TAP} down\nlink set {TAP} addrgenmode eui64\nlink set {TAP} up"),
        format!("addr del 10.78.0.1/32 dev {TAP}"),
        format!("addr add 10.78.0.9/32 dev {TAP}"),
        format!("addr add 10.78.0.1/24 dev {TAP}"),
        format!("addr del fe80::77:3/64 dev {TAP}"),
        format!("addr add fe80::9/64 dev {TAP}"),
        format!("route del 10.78.0.2/32 dev {TAP}"),
        format!("route add 10.78.0.7/32 dev {TAP} scope link proto static"),
        format!("route replace 10.78.0.2/32 dev {} scope link", hotpair_tests::lab::UPLINK),
        format!("neigh del 10.78.0.2 dev {TAP}"),
        format!("neigh replace fe80::77:1 lladdr 02:00:00:00:00:01 dev {TAP} nud permanent"),
    ] {
        lab.host().ip(&drift)?;
        let link = ensure().with_context(|| drift.clone())?;
        assert_eq!(link.index, made.index, "{drift}");
        assert_right(netns).with_context(|| drift.clone())?;
    }
    run(netns.command("sh").args(["-c", &format!("echo 1 > /proc/sys/net/ipv6/conf/{TAP}/accept_ra")]))?;
    ensure()?;
    assert_right(netns)
}

#[test]
fn a_queueing_discipline_of_somebody_elses_stays() -> Result<()> {
    if !crate::may_run("a_queueing_discipline_of_somebody_elses_stays") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host().netns();
    let ensure = || inside(netns, async { Ok(Network::open().await?.ensure_tap(&spec()).await?) });
    ensure()?;
    run(netns.command("tc").args(["qdisc", "add", "dev", TAP, "root", "pfifo"]))?;
    for drift in ["mtu 1400", "down"] {
        lab.host().ip(&format!("link set {TAP} {drift}"))?;
        ensure()?;
        assert_eq!(ip_json(netns, &format!("link show {TAP}"))?[0]["qdisc"], "pfifo", "{drift}");
    }
    Ok(())
}

#[test]
fn a_tap_in_use_is_put_right_without_a_lost_datagram() -> Result<()> {
    if !crate::may_run("a_tap_in_use_is_put_right_without_a_lost_datagram") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host().netns();
    let ensure = || inside(netns, async { Ok(Network::open().await?.ensure_tap(&spec()).await?) });
    ensure()?;
    lab.command_machine("start", 0, 1)?;
    // Without the data plane nothing translates addresses: the host is a neighbour of the entry address here. The
    // machine's answers come back through its default route, for which the host has to be 169.254.77.3.
    lab.host().ip("addr add 169.254.77.3/32 dev lo")?;
    lab.host().ip(&format!("route add 203.0.113.10/32 dev {TAP} src 169.254.77.3"))?;
    lab.host().ip(&format!("neigh add 203.0.113.10 lladdr 02:68:70:00:00:01 dev {TAP}"))?;
    let load = {
        let _inside = netns.enter()?;
        hotpair_tests::load::Plan::udp("203.0.113.10:7".parse()?).rate(500).start()?
    };
    wait_until("answers", Duration::from_secs(5), || load.so_far().answered() > 20)?;
    for _ in 0..5 {
        assert!(ensure()?.carrier, "in use");
        std::thread::sleep(Duration::from_millis(20));
    }
    let report = load.stop();
    assert_eq!(report.lost().count(), 0, "{}", report.line());
    Ok(())
}

#[test]
fn many_taps_are_made_and_mended_at_the_same_time() -> Result<()> {
    if !crate::may_run("many_taps_are_made_and_mended_at_the_same_time") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    inside(lab.host().netns(), async {
        let network = Network::open().await?;
        for _ in 0..3 {
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..20u8 {
                let (name, member_ip) = (format!("hpmanys{i}"), Ipv4Addr::new(10, 78, 1, i));
                let (network, spec) = (network.clone(), TapSpec { name, member_ip, ..spec() });
                tasks.spawn(async move { network.ensure_tap(&spec).await });
            }
            while let Some(made) = tasks.join_next().await {
                made??;
            }
        }
        Ok(())
    })
}

#[test]
fn what_is_not_ours_is_refused_by_name_and_left_alone() -> Result<()> {
    if !crate::may_run("what_is_not_ours_is_refused_by_name_and_left_alone") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host().netns();
    for (make, is) in [
        (format!("link add {TAP} type veth peer name peer"), "veth"),
        (format!("link add {TAP} type bridge"), "bridge"),
        (format!("tuntap add {TAP} mode tun"), "without Ethernet"),
        (format!("tuntap add {TAP} mode tap multi_queue"), "several queues"),
    ] {
        lab.host().ip(&make)?;
        let before = ip_json(netns, &format!("link show {TAP}"))?;
        let (ensured, removed) = inside(netns, async {
            let network = Network::open().await?;
            Ok((network.ensure_tap(&spec()).await, network.remove_tap(TAP).await))
        })?;
        for error in [ensured.expect_err("refused"), removed.expect_err("refused")] {
            assert!(matches!(error, NetworkError::NotOurs { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(TAP) && text.contains(is), "{text}");
        }
        assert_eq!(ip_json(netns, &format!("link show {TAP}"))?, before, "{make}");
        lab.host().ip(&format!("link del {TAP}"))?;
    }
    let long = TapSpec { name: "hpmuch-too-longs0".to_string(), ..spec() };
    let error =
        inside(netns, async { Ok(Network::open().await?.ensure_tap(&long).await) })?.expect_err("refused");
    assert!(error.to_string().contains("1 to 15 characters"), "{error}");
    Ok(())
}

#[test]
fn a_tap_that_cannot_be_set_up_is_not_left_behind() -> Result<()> {
    if !crate::may_run("a_tap_that_cannot_be_set_up_is_not_left_behind") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let absurd = TapSpec { mtu: 1_000_000, ..spec() };
    let (error, left) = inside(lab.host().netns(), async {
        let network = Network::open().await?;
        Ok((network.ensure_tap(&absurd).await.expect_err("no such MTU"), network.link(TAP).await?))
    })?;
    assert!(error.to_string().contains("MTU 1000000"), "{error}");
    assert_eq!(left, None);
    Ok(())
}

#[test]
fn a_tap_is_removed_once() -> Result<()> {
    if !crate::may_run("a_tap_is_removed_once") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    inside(lab.host().netns(), async {
        let network = Network::open().await?;
        assert!(!network.remove_tap(TAP).await?, "there is none");
        network.ensure_tap(&spec()).await?;
        assert!(network.link(TAP).await?.is_some());
        assert!(network.remove_tap(TAP).await?);
        assert_eq!(network.link(TAP).await?, None);
        Ok(())
    })
}

async fn news(
    events: &mut UnboundedReceiver<LinkEvent>,
    name: &str,
    change: LinkChange,
) -> Result<LinkEvent> {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
        let event =
            event.with_context(|| format!("{change:?} of {name} is not told"))?.context("no more news")?;
        if event.name == name && event.change == change {
            return Ok(event);
        }
    }
}

#[test]
fn links_that_change_are_told() -> Result<()> {
    if !crate::may_run("links_that_change_are_told") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let change = |up, carrier| LinkChange::State { up, carrier };
    inside(lab.host().netns(), async {
        let network = Network::open().await?;
        let mut events = network.watch().await?;
        let link = network.ensure_tap(&spec()).await?;
        assert_eq!(news(&mut events, TAP, change(true, false)).await?.index, link.index);
        lab.command_machine("start", 0, 1)?;
        news(&mut events, TAP, change(true, true)).await?;
        // Longer than linkwatch ever holds something back: what is measured then is what a failover would see.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let killed = Instant::now();
        lab.machine(0)?.kill()?;
        news(&mut events, TAP, change(true, false)).await?;
        eprintln!(
            "the loss of the carrier was told {:.1} ms after the SIGKILL",
            killed.elapsed().as_secs_f64() * 1e3
        );
        lab.host().ip(&format!("link set {TAP} down"))?;
        news(&mut events, TAP, change(false, false)).await?;
        network.remove_tap(TAP).await?;
        assert_eq!(news(&mut events, TAP, LinkChange::Removed).await?.index, link.index);
        assert!(events.try_recv().is_err(), "nothing is told twice");
        Ok(())
    })
}

#[test]
fn news_lost_in_a_flood_are_made_up_for() -> Result<()> {
    if !crate::may_run("news_lost_in_a_flood_are_made_up_for") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    lab.host().ip("tuntap add gone mode tap\ntuntap add other mode tap\ntuntap add noise mode tap")?;
    inside(lab.host().netns(), async {
        let network = Network::open().await?;
        let mut events = network.watch().await?;
        // The runtime stands still meanwhile: its socket overflows.
        let mut flood = "link set noise up\nlink set noise down\n".repeat(2000);
        flood.push_str("link del gone\nlink set other up\n");
        lab.host().ip(&flood)?;
        let (mut gone, mut up) = (false, false);
        while !(gone && up) {
            let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
            let event = event.with_context(|| format!("gone: {gone}, up: {up}"))?.context("no more news")?;
            gone |= event.name == "gone" && event.change == LinkChange::Removed;
            up |= event.name == "other" && matches!(event.change, LinkChange::State { up: true, .. });
        }
        // It goes on afterwards.
        lab.host().ip("link set other down")?;
        news(&mut events, "other", LinkChange::State { up: false, carrier: false }).await?;
        Ok(())
    })
}

#[test]
fn an_announcement_reaches_the_clients_caches() -> Result<()> {
    if !crate::may_run("an_announcement_reaches_the_clients_caches") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let client = lab.client().netns();
    // What the client believes of an old holder.
    client.ip("neigh add 203.0.113.10 lladdr 02:00:00:00:00:99 dev lan0 nud stale\n\
         neigh add 2001:db8::10 lladdr 02:00:00:00:00:99 dev lan0 nud stale\n")?;
    let capture = lab.client().capture()?;
    let entry: Vec<IpAddr> = vec!["203.0.113.10".parse()?, "2001:db8::10".parse()?];
    let mac = inside(lab.host().netns(), async {
        let network = Network::open().await?;
        let uplink = network.link(hotpair_tests::lab::UPLINK).await?.context("no uplink")?;
        Announcer::open(&uplink)?.announce(&entry)?;
        Ok(uplink.mac)
    })?;
    let mac_text = mac.map(|byte| format!("{byte:02x}")).join(":");
    // The host itself says things on the uplink, too.
    let announces = |frame: &[u8]| frame[12..14] == [8, 6] || frame.get(54) == Some(&136);
    let frames: Vec<_> =
        capture.stop()?.into_iter().filter(|f| f.bytes[6..12] == mac && announces(&f.bytes)).collect();
    assert_eq!(frames.len(), 3, "{frames:?}");
    let na = etherparse::SlicedPacket::from_ethernet(&frames[2].bytes)?;
    let (Some(etherparse::NetSlice::Ipv6(ip)), Some(etherparse::TransportSlice::Icmpv6(icmp))) =
        (na.net, na.transport)
    else {
        bail!("not ICMPv6: {:?}", frames[2]);
    };
    assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
    eprintln!("{}", run(client.command("ip").args(["neigh"]))?);
    for address in ["203.0.113.10", "2001:db8::10"] {
        wait_until(&format!("the client to learn where {address} is"), Duration::from_secs(5), || {
            run(client.command("ip").args(["neigh", "show", address]))
                .is_ok_and(|line| line.contains(&mac_text))
        })?;
    }
    Ok(())
}

#[test]
fn a_probe_is_answered_by_a_living_guest() -> Result<()> {
    if !crate::may_run("a_probe_is_answered_by_a_living_guest") {
        return Ok(());
    }
    let lab = Lab::builder().without_controller()?;
    let netns = lab.host().netns();
    let entry: Vec<IpAddr> = vec!["203.0.113.10".parse()?, "2001:db8::10".parse()?];
    let guest_mac = [2, 0x68, 0x70, 0, 0, 1];
    let link = inside(netns, async { Ok(Network::open().await?.ensure_tap(&spec()).await?) })?;
    lab.command_machine("start", 0, 1)?;
    let capture = Capture::start(netns, TAP)?;
    inside(netns, async { Ok(Prober::open(&link, guest_mac, &entry)?.probe()?) })?;
    let answered = |frames: &[hotpair_tests::wire::Frame], kind: &[u8]| {
        frames.iter().any(|f| f.bytes[..6] == hotpair_abi::GATEWAY_MAC && f.bytes[12..].starts_with(kind))
    };
    let deadline = Duration::from_secs(5);
    wait_until("an ARP reply", deadline, || answered(&capture.so_far(), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]))?;
    wait_until("an advertisement", deadline, || {
        capture.so_far().iter().any(|f| {
            f.bytes[..6] == hotpair_abi::GATEWAY_MAC
                && f.bytes[12..14] == [0x86, 0xdd]
                && f.bytes.get(54) == Some(&136)
        })
    })?;
    lab.host().ip(&format!("link set {TAP} down"))?;
    let error =
        inside(netns, async { Ok(Prober::open(&link, guest_mac, &entry)?.probe()) })?.expect_err("down");
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    Ok(())
}
