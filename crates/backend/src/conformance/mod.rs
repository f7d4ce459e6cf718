//! What every backend must do, as named behaviours: written once, run for each backend.
//!
//! A backend's tests hold one line per seam, for example
//! `splitreel_backend::store_conformance!(MemoryHarness::new());`, which makes one `#[tokio::test]` per
//! behaviour. The expression is evaluated for each test and gives a fresh, isolated backend. A behaviour that
//! does not hold panics: nothing in here belongs in a running service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test suite: a broken behaviour panics"
)]

pub mod blobs;
pub mod buckets;
mod chance;
pub mod doorbell;
pub mod fixture;
pub mod grants;
pub mod inbox;
pub mod model;
pub mod outputs;
pub mod records;
pub mod store;
pub mod uploads;

use crate::buckets::Buckets;
use crate::grants::SignedRequest;
use crate::inbox::EventInbox;
use crate::outputs::OutputStore;
use crate::uploads::UploadStorage;
use crate::{BlobStore, Doorbell, Grants, JobStore, Records};
use async_trait::async_trait;
use bytes::Bytes;
use splitreel_core::job::Job;
use std::sync::Arc;

/// A place where one job store lives. Owns what has to be cleaned up.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// Opens the store: each call is another process on the same, durable state.
    async fn open(&self) -> Arc<dyn JobStore>;
}

/// A place where one blob store lives.
#[async_trait]
pub trait BlobHarness: Send + Sync {
    /// Opens the store: each call is another process on the same, durable state.
    async fn open(&self) -> Arc<dyn BlobStore>;
    /// An existing empty local directory, on the file system that workers would use.
    fn scratch(&self) -> std::path::PathBuf;
}

/// A place where one doorbell lives.
#[async_trait]
pub trait DoorbellHarness: Send + Sync {
    /// Opens the doorbell: each call is another listener or sender of the same one.
    async fn open(&self) -> Arc<dyn Doorbell>;
}

/// A place where records live.
#[async_trait]
pub trait RecordsHarness: Send + Sync {
    /// Opens them: each call is another process on the same, durable state.
    async fn open(&self) -> Arc<dyn Records>;
}

/// What an upload storage declares that it can do. The suite asks; it never guesses from a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadCapabilities {
    /// Clients can put parts into the storage themselves, by signed requests.
    pub takes_direct_uploads: bool,
}

/// A place where uploads live.
#[async_trait]
pub trait UploadHarness: Send + Sync {
    /// Opens the storage: each call is another process on the same, durable state.
    async fn open(&self) -> Arc<dyn UploadStorage>;
    /// What the storage can do.
    fn capabilities(&self) -> UploadCapabilities;
    /// Bytes of the object at a locator; `None` when it does not exist.
    async fn content(&self, locator: &str) -> Option<Bytes>;
    /// Puts a part as a client does and answers its entity tag. Called only for storage that takes direct uploads.
    async fn put(&self, request: &SignedRequest, part: Bytes) -> String;
}

/// What a grant backend declares that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantCapabilities {
    /// Reads and writes are signed; otherwise local workers open sources and objects themselves.
    pub signs: bool,
}

/// A place where sources and objects live.
#[async_trait]
pub trait GrantHarness: Send + Sync {
    /// Opens the seam: each call is another process.
    async fn open(&self) -> Arc<dyn Grants>;
    /// What the backend can do.
    fn capabilities(&self) -> GrantCapabilities;
    /// Writes or replaces a source; answers its locator.
    async fn write_source(&self, name: &str, content: &[u8]) -> String;
    /// Deletes a source.
    async fn remove_source(&self, name: &str);
    /// Locator of an existing source where this deployment may not read.
    async fn elsewhere(&self) -> String;
    /// Sends a signed request; answers status and body. Called only for backends that sign.
    async fn send(&self, request: &SignedRequest, body: Bytes) -> (u16, Bytes);
}

/// A place where source buckets live.
#[async_trait]
pub trait BucketHarness: Send + Sync {
    /// Opens the listings.
    async fn open(&self) -> Arc<dyn Buckets>;
    /// Name of an existing, empty bucket.
    fn bucket(&self) -> String;
    /// Writes an object into that bucket.
    async fn put(&self, key: &str, content: &[u8]);
}

/// A place where outputs are written.
#[async_trait]
pub trait OutputHarness: Send + Sync {
    /// Opens the store: each call is another process.
    async fn open(&self) -> Arc<dyn OutputStore>;
    /// The objects that are copied from.
    async fn blobs(&self) -> Arc<dyn BlobStore>;
    /// A location that can be written to.
    fn location(&self) -> String;
    /// A location that cannot.
    fn unusable_location(&self) -> String;
    /// Content of a copied file of a job at [`OutputHarness::location`]; `None` when it does not exist.
    async fn content(&self, job: &Job, path: &str) -> Option<Bytes>;
}

/// A place where one inbox lives.
#[async_trait]
pub trait InboxHarness: Send + Sync {
    /// Opens the inbox: each call is another process. Up to four messages may be without an answer.
    async fn open(&self) -> Arc<dyn EventInbox>;
    /// Sends a message, after the inbox was opened once.
    async fn send(&self, body: &[u8]);
    /// Cuts off everything that was opened, as if the processes had been killed.
    async fn disconnect(&self);
}

/// Makes one test per behaviour. Use the macros of the seams instead.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($suite:ident, $harness:expr, [$($behaviour:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let harness = $harness;
                $crate::conformance::$suite::$behaviour(&harness).await;
            }
        )*
    };
}

/// One test per behaviour of a [`JobStore`]; takes an expression that makes a [`StoreHarness`].
#[macro_export]
macro_rules! store_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            store,
            $harness,
            [
                a_job_is_accepted_once_per_key,
                a_key_with_another_request_is_told_so,
                tenants_do_not_share_keys,
                concurrent_submits_make_one_job,
                jobs_are_listed_newest_first,
                a_probed_job_waits_for_its_plan,
                a_plan_is_recorded_once_and_read_back,
                a_job_that_cannot_be_planned_is_rejected,
                cancel_ends_a_job_and_its_tasks,
                retry_keeps_what_is_done,
                retry_of_a_failed_probe_probes_again,
                retry_of_a_rejected_job_plans_again,
                an_ended_job_can_be_forgotten,
                events_are_ordered_and_paged,
                state_survives_reopening,
                one_of_many_claims_wins,
                a_repeated_claim_gets_the_same_lease,
                a_stale_or_unknown_ring_is_refused,
                a_claim_before_its_time_is_refused,
                renew_extends_only_the_live_lease,
                a_lease_without_progress_is_lost,
                complete_is_idempotent_on_its_lease,
                a_reaped_lease_cannot_complete,
                concurrent_completes_insert_one_assemble,
                completing_assemble_publishes_once,
                cancel_before_complete_wins,
                complete_before_cancel_wins,
                cancel_and_publish_exclude_each_other,
                no_claim_after_cancel,
                a_failed_attempt_is_retried_later,
                a_clock_set_back_ends_a_back_off,
                a_clock_set_back_does_not_lengthen_leases,
                media_failures_use_up_their_attempts,
                a_permanent_failure_ends_the_job,
                a_source_failure_is_told_as_it_is,
                the_infra_budget_holds,
                reap_takes_only_expired_leases,
                reap_gives_up_when_the_budget_is_spent,
                a_lost_worker_is_replaced_at_once,
                shortened_leases_end_early_unless_renewed,
                dispatch_goes_by_job_age_and_number,
                dispatch_fills_the_window_and_no_more,
                dispatch_rings_for_all_free_slots,
                who_waits_for_assemblers_takes_no_place_of_workers,
                dispatch_skips_what_is_not_due,
                dispatch_serves_only_its_scope,
                a_ring_is_sent_once_until_swept,
                a_claim_takes_its_outbox_row,
                statistics_count_what_is_open,
                a_paused_job_starts_nothing,
                a_resumed_job_goes_on,
                running_attempts_outlast_a_pause,
                a_paused_job_can_be_planned_and_wait_for_its_assembly,
                an_ended_job_is_not_paused,
                dispatch_shares_places_by_weight,
                a_new_tenant_is_served_at_once,
                many_running_and_queued_jobs_do_not_hold_up_another_tenant,
                a_quota_bounds_what_is_in_flight,
                dispatch_goes_by_priority_within_a_tenant,
                an_old_job_overtakes_a_higher_class,
                jobs_are_listed_by_tenant,
                a_job_list_is_paged_without_gaps,
                a_task_list_is_paged_and_filtered,
                a_straggler_gets_a_second_attempt,
                what_waits_for_an_assembler_holds_up_no_second_attempt,
                the_first_of_two_attempts_to_complete_wins,
                leases_beside_each_other_end_one_by_one,
                cancel_ends_attempts_beside_each_other,
                attempts_beside_each_other_count_for_the_quota,
                a_wrong_list_of_frames_is_decoded,
                a_late_part_of_an_earlier_generation_is_refused,
                the_next_generation_is_published,
                a_decoded_list_of_frames_is_not_decoded_again,
                retry_of_a_failed_second_probe_probes_again,
                a_plan_of_another_version_is_made_again,
                random_operations_match_the_reference,
            ]
        );
    };
}

/// One test per behaviour of a [`BlobStore`]; takes an expression that makes a [`BlobHarness`].
#[macro_export]
macro_rules! blob_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            blobs,
            $harness,
            [
                bytes_round_trip,
                an_empty_object_is_an_object,
                ranges_stop_at_the_end,
                what_is_not_there_is_not_found,
                bad_keys_are_refused,
                a_second_write_replaces_the_first,
                a_file_is_stored_with_its_content,
                an_exported_file_can_be_read,
                export_refuses_an_existing_target,
                pieces_are_put_together,
                a_piece_of_the_wrong_size_is_refused,
                lists_are_sorted_and_by_prefix,
                delete_is_idempotent,
                an_abandoned_put_is_whole_or_absent,
                concurrent_puts_and_deletes_do_not_disturb_each_other,
                objects_survive_reopening,
            ]
        );
    };
}

/// One test per behaviour of a [`Doorbell`]; takes an expression that makes a [`DoorbellHarness`].
#[macro_export]
macro_rules! doorbell_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            doorbell,
            $harness,
            [
                each_ring_reaches_exactly_one_listener,
                queues_are_apart,
                a_cancelled_listener_takes_nothing,
                a_waiting_listener_is_woken
            ]
        );
    };
}

/// One test per behaviour of [`Records`]; takes an expression that makes a [`RecordsHarness`].
#[macro_export]
macro_rules! records_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            records,
            $harness,
            [
                a_document_comes_back_as_it_was,
                each_change_raises_the_version,
                a_write_finds_what_it_expects_or_changes_nothing,
                a_delete_finds_what_it_expects_or_changes_nothing,
                kinds_and_tenants_are_apart,
                lists_are_in_byte_order,
                a_list_is_paged_without_gaps,
                a_prefix_is_taken_literally,
                what_is_due_longest_comes_first,
                a_clock_set_back_makes_waiting_records_due,
                one_of_many_creators_wins,
                no_concurrent_change_is_lost,
                records_survive_reopening,
                random_writes_match_the_reference,
            ]
        );
    };
}

/// One test per behaviour of an [`UploadStorage`]; takes an expression that makes a [`UploadHarness`].
#[macro_export]
macro_rules! upload_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            uploads,
            $harness,
            [
                pieces_of_any_size_become_one_object,
                an_empty_upload_can_be_finished,
                begin_can_be_repeated,
                a_piece_at_another_offset_is_refused,
                a_piece_beyond_the_end_is_refused,
                a_wrong_checksum_stores_nothing,
                a_broken_piece_keeps_what_came_before,
                a_broken_piece_with_a_checksum_stores_nothing,
                an_incomplete_upload_is_not_finished,
                finish_can_be_repeated,
                abort_deletes_what_there_is,
                concurrent_uploads_do_not_mix,
                direct_uploads_work_or_are_declined,
            ]
        );
    };
}

/// One test per behaviour of [`Grants`]; takes an expression that makes a [`GrantHarness`].
#[macro_export]
macro_rules! grant_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            grants,
            $harness,
            [
                a_pin_names_size_and_version,
                a_changed_source_has_another_pin,
                a_vanished_source_is_not_found,
                a_source_elsewhere_is_refused,
                a_presigned_request_reads_the_pinned_version,
                presigned_requests_write_and_read_one_object,
            ]
        );
    };
}

/// One test per behaviour of [`Buckets`]; takes an expression that makes a [`BucketHarness`].
#[macro_export]
macro_rules! bucket_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            buckets,
            $harness,
            [
                a_listing_is_in_byte_order,
                a_replaced_object_is_listed_as_another_version,
                a_listing_is_paged_without_gaps,
                a_prefix_is_taken_literally,
                a_missing_bucket_is_an_error,
            ]
        );
    };
}

/// One test per behaviour of an [`OutputStore`]; takes an expression that makes an [`OutputHarness`].
#[macro_export]
macro_rules! output_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            outputs,
            $harness,
            [
                every_file_is_copied,
                a_copy_can_be_repeated,
                manifests_wait_for_the_media_they_name,
                jobs_at_one_location_do_not_mix,
                an_unusable_location_is_an_error,
            ]
        );
    };
}

/// One test per behaviour of an [`EventInbox`]; takes an expression that makes an [`InboxHarness`].
#[macro_export]
macro_rules! inbox_conformance {
    ($harness:expr) => {
        $crate::conformance_tests!(
            inbox,
            $harness,
            [
                acknowledged_messages_are_delivered_once,
                rejected_messages_come_back_only_when_requeued,
                unanswered_messages_are_delivered_again,
                each_message_is_answered_by_its_tag_once,
                a_cancelled_wait_loses_nothing,
            ]
        );
    };
}
