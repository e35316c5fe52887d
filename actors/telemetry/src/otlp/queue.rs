//! The bound of a signal's queue, and the SDK's batch processor of log records behind it.
//!
//! The SDK drops items that do not fit into its queue and logs it once. Here the same
//! bound is applied one step earlier: what does not fit is counted with its reason, and the length
//! of the queue is known. Spans have a queue of their own, [`span_queue`](super::span_queue).

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_proto::{
    tonic::collector::logs::v1::ExportLogsServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, logs::tonic::group_logs_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord},
};
use prost::Message as _;

use super::outlet::SenderSlot;
use crate::{config::Queue, tally::DropReason};

/// Takes log records for export through a [`SenderSlot`].
#[derive(Debug)]
pub(crate) struct LogQueue {
    batches: BatchLogProcessor,
    outlet: SenderSlot,
    size: usize,
}

/// The exporter interface of the SDK's batch processor.
#[derive(Debug)]
struct LogOutlet {
    outlet: SenderSlot,
    resource: ResourceAttributesWithSchema,
}

impl LogExporter for LogOutlet {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.outlet.export(batch.iter().count() as u64, || {
            let resource_logs = group_logs_by_resource_and_scope(&batch, &self.resource);
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        });
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl LogQueue {
    /// Starts the batch thread.
    pub(crate) fn start(outlet: SenderSlot, queue: Queue) -> Self {
        let config = opentelemetry_sdk::logs::BatchConfigBuilder::default()
            .with_max_queue_size(queue.size)
            .with_max_export_batch_size(queue.batch)
            .with_scheduled_delay(queue.delay)
            .build();
        let exporter = LogOutlet {
            outlet: outlet.clone(),
            resource: ResourceAttributesWithSchema::default(),
        };
        let batches = BatchLogProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        Self {
            batches,
            outlet,
            size: queue.size,
        }
    }
}

/// Makes room for one item in a queue of `size`, or counts it as dropped.
pub(crate) fn admit(outlet: &SenderSlot, size: usize) -> bool {
    let admitted = outlet.tally().admit(size as u64);
    if !admitted {
        let reason = if outlet.is_attached() {
            DropReason::QueueFull
        } else {
            DropReason::NotAttached
        };
        outlet.tally().dropped(1, reason);
    }
    admitted
}

impl LogProcessor for LogQueue {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if admit(&self.outlet, self.size) {
            self.batches.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.outlet.close();
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}
