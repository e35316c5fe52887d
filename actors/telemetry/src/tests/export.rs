//! Export to a real collector over both protocols, and to ones that are away, silent or unwilling.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, info, info_span};

use super::{
    Config, Outcome, Rig,
    collector::{
        Rotel, collector_of_many, free_address, grpc_collector, picky_collector,
        refusing_collector, silent_collector, slow_collector,
    },
    until,
};
use crate::{
    Destinations, DropReason, Otlp, Protocol, Queue, Signal,
    tally::{Failure, SignalCounters},
    watch::Watch,
};

fn config(endpoint: String, protocol: Protocol, timeout_ms: u64) -> Config {
    let export_timeout = Duration::from_millis(timeout_ms);
    Config {
        otlp: Destinations::one(Otlp::new(endpoint, protocol, export_timeout)),
        service_name: "under-test".to_owned(),
        resource_attributes: vec![("team".to_owned(), "blue".to_owned())],
        ..Config::default()
    }
}

impl Rig {
    fn attach(&self) -> Outcome<crate::otlp::Attachment> {
        let inner = &self.telemetry.0;
        Ok(inner.pipelines.outlets.attach(&inner.otlp)?)
    }

    fn tally(&self) -> Outcome<&SignalCounters> {
        self.tally_of(Signal::Traces)
    }

    fn tally_of(&self, signal: Signal) -> Outcome<&SignalCounters> {
        let outlet = self.telemetry.0.pipelines.outlets.of(signal);
        Ok(outlet.ok_or("it is not exported")?.tally())
    }
}

fn a_trace_a_metric_and_two_lines_arrive(protocol: Protocol) -> Outcome {
    let mut rotel = Rotel::start()?;
    let rig = Rig::new(&config(rotel.endpoint(protocol), protocol, 5000))?;
    let counter = rig.telemetry.meter().u64_counter("test.pears").build();
    rig.run(|| {
        let startup = info_span!("startup-root", attempt = 1).entered();
        info_span!("startup-child")
            .in_scope(|| info!(pears = 3, "said before the exporter was there"));
        drop(startup);
        debug!("too quiet to be exported");
        tracing::info!(target: "hyper::client", "of the export itself");
        let _internal = info_span!(target: "h2::codec", "frame-of-the-export");
    });
    counter.add(3, &[]);
    // Long enough for the batch threads to hold their first batch.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(rig.tally()?.queued(), 2);
    let attachment = rig.attach()?;
    rig.run(|| info_span!("after-the-start").in_scope(|| info!("said after it was there")));
    let flushed = rig.telemetry.flush(Duration::from_secs(5));
    assert!(flushed.is_complete(), "{flushed:?}");
    assert_eq!(
        (
            rig.tally()?.exported_total(),
            rig.tally()?.lost_total(),
            rig.tally()?.queued()
        ),
        (3, 0, 0)
    );
    for wanted in [
        "startup-root",
        "startup-child",
        "after-the-start",
        "test.pears",
        "said before",
        "said after",
        "under-test",
        "blue",
    ] {
        until(wanted, || {
            rotel.printed().is_ok_and(|text| text.contains(wanted))
        })?;
    }
    let printed = rotel.printed()?;
    for unwanted in ["too quiet", "of the export itself", "frame-of-the-export"] {
        assert!(!printed.contains(unwanted), "{unwanted} in\n{printed}");
    }
    // An empty export is a success too: that is how the end of trouble is noticed.
    let before = rig.tally()?.successes();
    rig.telemetry.0.pipelines.outlets.probe();
    until("the probe is answered", || {
        rig.tally().is_ok_and(|tally| tally.successes() > before)
    })?;
    drop(attachment);
    Ok(())
}

#[test]
fn everything_arrives_over_grpc() -> Outcome {
    a_trace_a_metric_and_two_lines_arrive(Protocol::Grpc)
}

#[test]
fn everything_arrives_over_http() -> Outcome {
    a_trace_a_metric_and_two_lines_arrive(Protocol::Http)
}

#[test]
fn a_silent_collector_bounds_every_export_and_the_flush_of_all_signals() -> Outcome {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let (_listener, endpoint) = silent_collector()?;
        let rig = Rig::new(&config(endpoint, protocol, 300))?;
        let attachment = rig.attach()?;
        let watch = Watch::begin(&rig.telemetry.0.pipelines.outlets);
        let begun = Instant::now();
        rig.run(|| {
            for _ in 0..2000 {
                info_span!("work").in_scope(|| info!("working"));
            }
        });
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        let begun = Instant::now();
        let flushed = rig.telemetry.flush(Duration::from_millis(500));
        assert!(
            begun.elapsed() < Duration::from_millis(900),
            "{:?}",
            begun.elapsed()
        );
        assert!(
            flushed.lost.iter().any(|(_, items)| *items > 0),
            "{flushed:?}"
        );
        until("the trouble is seen", || {
            watch
                .trouble()
                .is_some_and(|trouble| trouble.failure == Failure::Timeout)
        })?;
        assert!(rig.tally()?.dropped_total(DropReason::Timeout) > 0);
        drop(attachment);
    }
    Ok(())
}

#[test]
fn a_collector_that_is_away_is_noticed_by_the_probe_and_every_item_is_accounted_for() -> Outcome {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let rig = Rig::new(&config(
            format!("http://{}", free_address()),
            protocol,
            2000,
        ))?;
        let attachment = rig.attach()?;
        let watch = Watch::begin(&rig.telemetry.0.pipelines.outlets);
        rig.telemetry.0.pipelines.outlets.probe();
        until("the trouble is seen", || watch.trouble().is_some())?;
        rig.run(|| (0..100).for_each(|_| drop(info_span!("work"))));
        let flushed = rig.telemetry.flush(Duration::from_secs(10));
        assert!(!flushed.is_complete());
        assert_eq!(rig.tally()?.dropped_total(DropReason::ExportFailed), 100);
        let Some(Failure::Export(text)) = rig.tally()?.last_error() else {
            return Err("no error".into());
        };
        assert!(text.contains("Connection refused"), "{text}");
        assert!(!Failure::Export(text).is_refusal());
        assert_eq!(
            (rig.tally()?.exported_total(), rig.tally()?.queued()),
            (0, 0)
        );
        drop(attachment);
    }
    Ok(())
}

#[test]
fn a_collector_that_refuses_is_distinguished_from_one_that_is_away() -> Outcome {
    let rig = Rig::new(&config(refusing_collector()?, Protocol::Http, 2000))?;
    let attachment = rig.attach()?;
    let watch = Watch::begin(&rig.telemetry.0.pipelines.outlets);
    rig.telemetry.0.pipelines.outlets.probe();
    until("the refusal is seen", || {
        watch
            .trouble()
            .is_some_and(|trouble| trouble.failure.is_refusal())
    })?;
    drop(attachment);
    Ok(())
}

#[test]
fn what_a_collector_rejects_of_an_export_is_dropped_and_no_trouble() -> Outcome {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        one_item_of_each_signal_is_rejected(protocol)?;
    }
    Ok(())
}

fn one_item_of_each_signal_is_rejected(protocol: Protocol) -> Outcome {
    let rig = Rig::new(&config(picky_collector(protocol)?, protocol, 2000))?;
    let attachment = rig.attach()?;
    let outlets = &rig.telemetry.0.pipelines.outlets;
    let watch = Watch::begin(outlets);
    rig.telemetry
        .meter()
        .u64_counter("test.pears")
        .build()
        .add(1, &[]);
    rig.run(|| {
        for _ in 0..3 {
            info_span!("work").in_scope(|| info!("working"));
        }
    });
    let flushed = rig.telemetry.flush(Duration::from_secs(5));
    for signal in Signal::ALL {
        let tally = outlets.of(signal).ok_or("no outlet")?.tally();
        assert_eq!(tally.dropped_total(DropReason::Rejected), 1, "{signal:?}");
        assert!(tally.exported_total() >= 2, "{signal:?}: {tally:?}");
        assert!(flushed.lost.contains(&(signal, 1)), "{flushed:?}");
    }
    assert_eq!(watch.trouble(), None);
    drop(attachment);
    Ok(())
}

/// `PermissionDenied`, in the place of an answer.
#[test]
fn a_status_that_is_no_success_loses_the_export_at_once() -> Outcome {
    let endpoint = grpc_collector(Bytes::new(), "7")?;
    let rig = Rig::new(&config(endpoint, Protocol::Grpc, 2000))?;
    let attachment = rig.attach()?;
    let watch = Watch::begin(&rig.telemetry.0.pipelines.outlets);
    rig.run(|| drop(info_span!("work")));
    let flushed = rig.telemetry.flush(Duration::from_secs(5));
    assert!(flushed.lost.contains(&(Signal::Traces, 1)), "{flushed:?}");
    assert_eq!(rig.tally()?.dropped_total(DropReason::ExportFailed), 1);
    let trouble = watch.trouble().ok_or("no trouble")?;
    assert!(
        matches!(&trouble.failure, Failure::Export(text) if text.contains("PermissionDenied")),
        "{trouble:?}"
    );
    drop(attachment);
    Ok(())
}

#[test]
fn every_span_of_an_hour_is_exported_dropped_or_queued_however_the_collector_fails() -> Outcome {
    // The volume of a hundred requests a second in an hour, over the three kinds of faults.
    const SPANS: u64 = 120_000;
    let absent = format!("http://{}", free_address());
    let (_silent, hanging) = silent_collector()?;
    let slow = slow_collector(Duration::from_millis(50))?;
    for endpoint in [absent, hanging, slow.clone()] {
        let rig = Rig::new(&config(endpoint.clone(), Protocol::Http, 1000))?;
        let attachment = rig.attach()?;
        let tally = rig.tally()?;
        rig.run(|| {
            for _ in 0..SPANS {
                drop(info_span!("work"));
                assert!(tally.queued() <= 2048);
            }
        });
        // Longer than what is queued takes at the worst.
        rig.telemetry.flush(Duration::from_secs(30));
        until("the queue is empty", || tally.queued() == 0)?;
        assert_eq!(
            tally.exported_total() + tally.lost_total(),
            SPANS,
            "{endpoint}"
        );
        assert!(tally.dropped_total(DropReason::QueueFull) > 0, "{endpoint}");
        assert_eq!(tally.exported_total() > 0, endpoint == slow, "{endpoint}");
        drop(attachment);
    }
    Ok(())
}

#[test]
fn all_that_the_queue_holds_is_on_its_way_at_once() -> Outcome {
    let collector = collector_of_many(4)?;
    let rig = Rig::new(&config(collector, Protocol::Http, 5000))?;
    let attachment = rig.attach()?;
    let tally = rig.tally()?;
    rig.run(|| (0..2048).for_each(|_| drop(info_span!("work"))));
    until("the queue is empty", || tally.queued() == 0)?;
    assert_eq!((tally.exported_total(), tally.lost_total()), (2048, 0));
    drop(attachment);
    Ok(())
}

#[test]
fn a_batch_has_the_configured_size_and_delay() -> Outcome {
    let span_queue = Queue {
        size: 8,
        batch: 4,
        delay: Duration::from_secs(3600),
    };
    let rig = Rig::new(&Config {
        span_queue,
        ..config(collector_of_many(2)?, Protocol::Http, 5000)
    })?;
    let attachment = rig.attach()?;
    let tally = rig.tally()?;
    rig.run(|| (0..8).for_each(|_| drop(info_span!("work"))));
    until("two batches are sent", || tally.queued() == 0)?;
    rig.run(|| drop(info_span!("work")));
    std::thread::sleep(2 * Queue::default().delay);
    assert_eq!((tally.exported_total(), tally.queued()), (8, 1));
    drop(attachment);
    Ok(())
}

#[test]
fn a_queue_smaller_than_a_batch_is_sent_when_it_is_full() -> Outcome {
    let queue = Queue {
        size: 3,
        delay: Duration::from_secs(3600),
        ..Queue::default()
    };
    let rig = Rig::new(&Config {
        span_queue: queue,
        log_queue: queue,
        ..config(collector_of_many(1)?, Protocol::Http, 5000)
    })?;
    let signals = [Signal::Traces, Signal::Logs];
    rig.run(|| (0..5).for_each(|_| info_span!("work").in_scope(|| info!("done"))));
    for signal in signals {
        let tally = rig.tally_of(signal)?;
        assert_eq!(tally.queued(), 3, "{signal:?}");
        assert_eq!(tally.dropped_total(DropReason::NotAttached), 2);
    }
    let attachment = rig.attach()?;
    for signal in signals {
        let tally = rig.tally_of(signal)?;
        until("all of it is sent", || tally.exported_total() == 3)?;
    }
    drop(attachment);
    Ok(())
}

#[test]
fn while_nothing_is_attached_the_queue_is_bounded_and_the_rest_is_counted() -> Outcome {
    let rig = Rig::new(&config(
        format!("http://{}", free_address()),
        Protocol::Grpc,
        500,
    ))?;
    rig.run(|| (0..3000).for_each(|_| drop(info_span!("work"))));
    assert_eq!(rig.tally()?.queued(), 2048);
    assert_eq!(rig.tally()?.dropped_total(DropReason::NotAttached), 952);
    // With nothing to flush through, a flush does not wait.
    let flushed = rig.telemetry.flush(Duration::from_secs(5));
    assert!(flushed.took < Duration::from_millis(500), "{flushed:?}");
    assert!(flushed.to_string().contains("2048 of traces"), "{flushed}");
    Ok(())
}

#[test]
fn a_later_attachment_stays_when_an_earlier_one_goes() -> Outcome {
    let rig = Rig::new(&config(
        format!("http://{}", free_address()),
        Protocol::Grpc,
        500,
    ))?;
    let earlier = rig.attach()?;
    let later = rig.attach()?;
    let outlets = &rig.telemetry.0.pipelines.outlets;
    let outlet = outlets.of(Signal::Traces).ok_or("no traces")?;
    drop(earlier);
    assert!(outlet.is_attached());
    drop(later);
    assert!(!outlet.is_attached());
    let mut left = rig.attach()?;
    left.leave();
    drop(left);
    assert!(outlet.is_attached());
    Ok(())
}

#[test]
fn an_empty_export_says_that_it_is_empty() -> Outcome {
    let collector = slow_collector(Duration::ZERO)?;
    let rig = Rig::new(&config(collector, Protocol::Http, 2000))?;
    let attachment = rig.attach()?;
    rig.telemetry.0.pipelines.outlets.probe();
    let tally = rig.tally()?;
    until("there is an answer", || {
        tally.last_success() > 0 || tally.last_error().is_some()
    })?;
    assert_eq!(tally.last_error(), None);
    drop(attachment);
    Ok(())
}

#[test]
fn trouble_is_over_when_the_collector_is_back_even_with_nothing_to_send() -> Outcome {
    let mut rotel = Rotel::start()?;
    let rig = Rig::new(&config(
        rotel.endpoint(Protocol::Grpc),
        Protocol::Grpc,
        2000,
    ))?;
    let outlets = &rig.telemetry.0.pipelines.outlets;
    rotel.stop();
    let attachment = rig.attach()?;
    let watch = Watch::begin(outlets);
    outlets.probe();
    until("the trouble is seen", || watch.trouble().is_some())?;
    rotel.restart()?;
    until("the trouble is over", || {
        outlets.probe();
        std::thread::sleep(Duration::from_millis(200));
        watch.trouble().is_none()
    })?;
    assert_eq!(watch.lost(), 0);
    drop(attachment);
    Ok(())
}
