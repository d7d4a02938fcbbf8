//! Which cases there are. The macros hand the names on, so that a store crate gets a test a name.

#[doc(hidden)]
#[macro_export]
macro_rules! __seam_cases {
    ([$($callback:tt)*] [$($argument:tt)*]) => {
        $($callback)*! { [$($argument)*]
            order {
                lower_priorities_are_handed_out_first
                what_is_due_earlier_is_handed_out_first
                priority_goes_before_time
                ids_decide_between_equals
                a_run_at_in_the_past_means_now
                queues_are_served_in_order_of_preference
            }
            claims {
                a_claim_shows_the_whole_job
                a_job_is_handed_out_once
                a_claim_takes_at_most_max
                a_claim_stops_at_max_bytes
                a_claim_takes_one_job_however_large
                unknown_queues_are_empty_and_stay_unknown
                a_scheduled_job_becomes_available_by_time
                the_worker_of_a_running_job_is_known
            }
            attempts {
                a_claim_raises_the_attempt_and_a_release_lowers_it
                a_released_job_keeps_its_place
                a_release_with_a_delay_is_scheduled
                releases_never_count_as_attempts
                the_nth_retry_waits_base_times_factor_to_the_n_capped
                jitter_stays_within_its_bounds
                a_worker_may_name_the_delay
                a_permanent_failure_is_dead_at_once
                the_last_failure_exhausts_the_job
                failures_are_kept_with_their_attempt_and_time
                the_newest_failures_are_kept
                the_last_failure_is_the_latest_also_after_a_retry_by_hand
                a_delay_is_a_delay_after_a_step_of_the_wall_clock
            }
            leases {
                a_lease_lives_its_whole_time
                a_lease_that_ran_out_is_lost_even_if_nobody_took_over
                a_stale_worker_cannot_do_anything_after_a_takeover
                a_token_without_its_nonce_proves_nothing
                a_lease_of_another_job_proves_nothing
                a_settle_of_an_unknown_job_finds_nothing
                an_extended_lease_lives_on
                an_extend_is_capped_at_the_time_limit_of_the_attempt
                each_claim_says_how_long_its_lease_lives
                a_new_worker_of_the_same_name_inherits_nothing
                a_step_of_the_wall_clock_neither_kills_nor_prolongs_a_lease
                progress_is_kept
            }
            crashes {
                a_crashed_job_is_offered_again_within_a_second_and_counted
                a_job_is_dead_after_three_crashes
                the_queue_may_allow_other_numbers_of_crashes
                the_job_has_the_last_word_on_crashes
                a_crash_on_the_last_attempt_is_dead_as_crashed
                a_job_past_its_expiry_is_never_handed_out
                a_job_that_runs_may_outlive_its_expiry
                a_crash_after_the_expiry_is_dead_as_expired
                a_job_that_ended_is_not_rescued_when_its_lease_would_have_run_out
                leases_that_live_do_not_hide_those_that_ran_out
            }
            settle {
                the_same_verb_again_gets_the_same_answer
                another_verb_after_the_end_is_too_late
                a_repeat_is_refused_where_it_must_not_happen_twice
                an_extend_after_the_end_is_too_late
                a_repeat_counts_while_its_lease_was_the_last_to_be_settled
                a_repeat_during_the_next_claim_changes_nothing
                a_result_is_kept
                a_worker_may_give_up_on_request
            }
            tokens {
                tokens_grow_with_every_grant_of_a_job
                tokens_grow_over_what_the_store_promises
            }
            cancel {
                a_waiting_job_is_cancelled_at_once
                a_running_job_is_told_at_its_next_extend
                a_cancelled_attempt_ends_cancelled_whatever_it_reports
                a_cancelled_attempt_that_crashes_ends_cancelled
                completion_wins_over_a_cancel_request
                cancelling_twice_is_no_error
                a_job_that_finished_otherwise_cannot_be_cancelled
                an_unknown_job_can_be_neither_cancelled_nor_retried_nor_deleted
            }
            retry {
                a_dead_job_can_be_retried
                a_job_that_crashed_too_often_can_be_retried
                a_cancelled_job_can_be_retried
                a_job_cancelled_while_it_ran_forgets_the_request_when_retried
                a_completed_job_can_be_retried
                a_scheduled_job_can_be_hurried
                a_retryable_job_can_be_hurried
                retrying_an_available_job_changes_nothing
                a_running_job_can_be_neither_retried_nor_deleted
                a_deleted_job_is_forgotten
            }
            dead {
                dead_letters_are_listed_newest_first_with_their_reason
                dead_letters_can_be_filtered
                dead_letters_can_be_requeued
                dead_letters_can_be_deleted
            }
            queues {
                a_queue_exists_from_its_first_job
                the_configuration_is_replaced_as_a_whole
                a_paused_queue_accepts_jobs_and_hands_out_none
                a_pause_spares_what_runs
                a_new_configuration_does_not_resume
                an_unknown_queue_cannot_be_resumed_or_purged_or_deleted
                a_purge_spares_running_and_dead_jobs
                the_depth_counts_jobs_by_state
                the_oldest_available_job_has_an_age
                queues_are_listed_by_name
                a_queue_with_unfinished_or_dead_jobs_cannot_be_deleted
                the_finished_jobs_go_with_their_queue
                a_queue_made_anew_remembers_nothing
            }
            bounds {
                a_full_queue_refuses
                the_bound_counts_what_is_neither_running_nor_finished
                what_runs_may_always_come_back
                a_full_queue_may_drop_its_oldest
                a_commit_that_does_not_fit_leaves_nothing
                a_refused_commit_drops_nobody
                a_duplicate_is_no_overflow
                jobs_that_wait_for_others_count_and_may_be_dropped
                a_queue_that_is_too_far_behind_refuses
                an_answer_tells_how_close_the_queue_is_to_refusing
            }
            unique {
                a_key_is_held_until_the_job_has_finished
                every_end_of_a_job_frees_its_key
                another_body_under_the_same_key_is_still_a_duplicate
                a_key_is_the_business_of_its_queue
                a_key_with_a_time_is_held_for_that_time
                a_key_is_free_again_when_its_commit_was_refused
                the_newer_holder_keeps_its_key_when_the_older_one_ends
                a_key_counts_within_one_commit
            }
            after {
                a_job_waits_until_all_it_names_have_completed
                the_end_of_a_job_frees_those_that_wait_in_the_same_commit
                a_job_that_waited_is_due_from_when_it_can_run
                a_schedule_outlasts_the_wait
                completed_jobs_count_as_done
                a_dead_job_keeps_others_waiting_until_it_is_requeued_and_completes
                a_dead_job_cancels_or_frees_those_that_say_so
                a_job_after_a_dead_one_is_judged_by_its_own_word
                a_job_after_a_cancelled_one_is_born_cancelled
                every_other_end_cancels_those_that_wait
                a_cancellation_goes_down_the_whole_chain
                a_forgotten_job_strands_nobody
                an_unknown_job_is_refused_by_its_place
                an_op_can_only_name_an_earlier_enqueue
                an_op_that_names_a_duplicate_means_the_first_job
                a_duplicate_waits_for_nothing_new
                a_blocked_job_can_be_cancelled_deleted_and_purged_but_not_retried
                a_blocked_job_expires
                a_refused_commit_makes_nobody_wait
                the_last_job_of_a_diamond_runs_once
                a_job_may_wait_for_ten_thousand
                a_job_may_not_wait_for_more
                more_than_a_commit_can_tell_hear_of_it_from_housekeeping
                an_id_is_not_used_again_while_those_that_wait_for_it_have_not_heard
                the_end_of_a_job_wakes_a_claimer_of_the_next
            }
            known_ids {
                the_same_id_again_is_a_duplicate
                a_made_id_is_known_after_its_job_has_finished
                an_id_of_another_queue_is_refused
                the_id_goes_before_the_unique_key
            }
            keys {
                a_repeated_commit_gets_the_first_answer
                the_same_key_with_another_body_is_a_mistake
                keys_of_other_scopes_are_other_keys
                a_refusal_is_not_kept_under_a_key
                a_repeat_is_answered_although_the_queue_is_full_by_now
                a_repeated_settle_is_answered_from_its_key
                a_repeated_claim_returns_the_grants_that_live
                an_empty_claim_is_tried_anew
                a_key_is_kept_for_a_day
                the_key_goes_before_the_id_and_the_unique_key
                a_repeat_in_the_same_batch_is_recognised
            }
            commits {
                a_commit_ends_a_job_and_starts_its_successors
                one_refused_op_undoes_the_whole_commit
                a_require_that_does_not_hold_stops_the_commit
                requires_are_judged_before_the_ops
                the_ops_of_a_commit_see_each_other
                a_commit_may_claim_what_it_enqueues
                the_commits_of_a_batch_stand_alone_and_in_order
                a_batch_settles_and_claims
                an_empty_batch_is_answered
                a_commit_with_too_many_ops_is_refused_whole
                a_commit_with_as_many_ops_as_there_may_be_is_done
            }
            lists {
                jobs_of_every_state_are_listed_newest_first
                jobs_can_be_filtered_by_state
                jobs_can_be_filtered_by_queue_kind_and_tag
                every_job_is_on_one_page_exactly
                paging_goes_on_while_jobs_come_and_go
                a_cursor_belongs_to_its_query
            }
            reads {
                a_job_is_shown_as_it_was_enqueued
                an_unknown_job_is_none
                a_read_sees_every_write_answered_before
                the_store_reads_the_clock_it_was_given
            }
            retention {
                finished_jobs_stay_a_day_and_dead_ones_a_month
                a_queue_keeps_the_newest_so_many
                a_new_retention_holds_for_old_jobs
                a_job_may_have_a_retention_of_its_own
                jobs_to_be_forgotten_at_one_instant_stay_two
                unfinished_jobs_are_never_forgotten
                a_retried_job_is_not_forgotten_for_its_past
                housekeeping_keeps_to_its_budget
            }
            waits {
                a_wait_ends_at_once_when_there_is_work
                an_enqueue_wakes_a_waiter
                a_waiter_on_several_queues_is_woken_by_each
                a_job_that_becomes_due_wakes_a_waiter
                a_nearer_due_time_moves_the_alarm
                the_end_of_a_back_off_wakes_a_waiter
                a_release_wakes_a_waiter
                a_crash_wakes_a_waiter
                a_retry_by_hand_wakes_a_waiter
                a_resume_wakes_a_waiter
                the_end_of_a_job_wakes_who_waits_for_it
                what_is_gone_is_not_waited_for
                a_cancel_request_wakes_who_waits_for_the_job
                the_end_of_a_job_ends_the_wait_for_its_cancellation
                no_more_waiters_are_woken_than_there_is_work
                a_wake_up_that_is_not_used_is_passed_on
                a_waiter_that_goes_away_takes_no_wake_up_along
                a_woken_waiter_that_goes_away_passes_it_on
                every_waiter_gets_its_turn_as_work_comes
                a_wait_ends_when_its_time_is_up
                waiting_takes_nothing
            }
            access {
                access_tokens_are_kept_and_listed_by_name
                the_name_of_an_access_token_is_taken_once
                a_revoked_access_token_is_gone
                the_audit_trail_is_read_newest_first
                an_audit_line_stands_or_falls_with_its_commit
            }
            locks {
                a_free_lock_is_granted_at_once
                a_held_lock_is_refused_and_says_who_has_it
                a_lock_is_not_reentrant
                a_released_lock_is_free
                a_release_that_is_repeated_does_not_free_the_next_holders_lock
                a_token_without_its_nonce_opens_no_lock
                locks_of_other_names_are_other_locks
                readers_share_a_lock
                a_writer_excludes_all_others
                a_semaphore_admits_as_many_as_it_has_permits
                another_number_of_permits_is_a_conflict_while_it_is_held
                other_modes_wait_for_a_semaphore
                every_grant_of_a_lock_has_a_higher_token
                what_is_out_of_range_is_refused_and_names_its_field
                a_broken_lock_is_lost_and_free
                the_next_token_after_a_break_is_higher
                a_token_guards_a_commit
                the_end_of_a_lock_belongs_to_its_commit
                a_refused_commit_leaves_no_trace_of_a_lock
                locks_are_listed_by_name_and_prefix
            }
            lock_leases {
                a_lock_lives_its_whole_time
                a_lock_that_ran_out_is_lost_even_if_nobody_took_over
                a_stale_holder_cannot_do_anything_after_a_takeover
                a_renewed_lock_lives_on
                a_renewal_without_a_time_takes_the_acquires
                a_renewal_never_shortens
                a_lock_may_live_for_a_millisecond
                a_step_of_the_wall_clock_neither_kills_nor_prolongs_a_lock
                the_delay_after_an_expiry_keeps_others_out
                there_is_no_delay_after_a_release_or_a_break
                a_check_knows_who_holds_and_who_held
            }
            lock_line {
                waiters_are_served_in_the_order_they_came
                a_release_hands_over_in_the_same_commit
                a_reader_behind_a_waiting_writer_waits
                those_in_front_who_fit_together_are_granted_together
                a_semaphore_hands_on_each_permit
                nobody_overtakes_one_who_waits
                a_hand_over_wakes_the_one_it_is_for
                one_who_does_not_wait_is_not_waited_for
                an_expiry_hands_over
                who_watches_a_lock_hears_of_every_new_holder
                a_dead_waiter_is_skipped
                a_waiter_that_comes_again_in_time_keeps_its_place
                the_last_look_leaves_the_line
                those_behind_a_waiter_that_leaves_pass
                those_behind_a_waiter_that_dies_pass
                a_grant_that_nobody_collects_goes_to_the_next
                the_time_of_a_handed_over_grant_begins_when_it_is_collected
                one_who_gives_up_gives_back_what_it_was_handed
            }
            lock_tickets {
                a_ticket_sent_again_gets_the_same_grant
                a_ticket_whose_grant_has_ended_is_an_ordinary_acquire
                the_same_ticket_with_another_body_is_a_mistake
                a_ticket_is_the_business_of_its_lock
                a_ticket_without_a_wait_gets_a_place_too
                a_ticket_keeps_its_place_for_ten_seconds
                a_poller_that_waits_longer_than_a_minute_keeps_its_place
                an_absent_ticket_is_passed_over_and_keeps_its_place
                an_absent_ticket_keeps_nobody_from_a_free_lock
                a_ticket_without_a_connection_may_return
                a_ticket_collects_what_it_was_handed_when_its_connection_broke
                a_commit_that_has_to_wait_is_not_kept_under_a_key
                the_line_of_a_lock_is_bounded
            }
            closing {
                a_closed_store_answers_closed
                closing_ends_every_wait
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __durable_cases {
    ([$($callback:tt)*] [$($argument:tt)*]) => {
        $($callback)*! { [$($argument)*]
            restart {
                a_store_says_whether_it_is_durable
                everything_is_as_it_was_after_a_restart
                the_order_of_a_queue_survives_a_restart
                a_lease_that_lived_gets_its_full_time_again
                time_stands_still_for_leases_while_no_server_runs
                a_lease_that_was_lost_stays_lost
                tokens_grow_over_a_restart
                what_was_settled_may_be_repeated_after_a_restart
                idempotency_keys_survive_a_restart
                unique_keys_survive_a_restart
                a_pause_survives_a_restart
                a_cancel_request_survives_a_restart
                retention_goes_on_after_a_restart
                a_refused_commit_left_nothing_behind_for_the_next_start
                what_jobs_wait_for_survives_a_restart
                those_that_have_not_heard_of_an_end_hear_of_it_after_a_restart
            }
            lock_restart {
                a_lock_survives_a_restart_with_its_full_time
                a_lock_that_was_lost_stays_lost_after_a_restart
                tokens_of_locks_grow_over_a_restart
                places_are_kept_over_a_restart
                a_ticket_collects_its_grant_after_a_restart
                a_grant_that_was_collected_unseen_lives_on_after_a_restart
                the_delay_after_an_expiry_survives_a_restart
            }
        }
    };
}
