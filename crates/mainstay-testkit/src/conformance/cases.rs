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
            }
            unique {
                a_key_is_held_until_the_job_has_finished
                every_end_of_a_job_frees_its_key
                another_body_under_the_same_key_is_still_a_duplicate
                a_key_is_the_business_of_its_queue
                a_key_with_a_time_is_held_for_that_time
                a_key_is_free_again_when_its_commit_was_refused
                the_newer_holder_keeps_its_key_when_the_older_one_ends
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
            places {
                no_more_jobs_of_a_queue_run_than_it_has_places
                a_key_has_one_place_unless_its_queue_says_otherwise
                jobs_of_other_keys_pass_a_busy_one
                within_a_key_jobs_keep_their_order
                a_key_is_a_word_of_its_queue_alone
                a_place_comes_free_exactly_once_however_its_job_ends
                a_stale_worker_frees_no_place
                all_workers_share_the_places_of_a_queue
                a_job_that_waits_for_its_back_off_does_not_hold_its_key
                a_job_that_is_not_due_does_not_hold_its_key
                a_lower_bound_hands_out_nothing_until_enough_have_ended
                a_place_that_comes_free_wakes_one_waiter
                more_places_wake_as_many_waiters
                a_deleted_or_cancelled_job_makes_way_for_the_next_of_its_key
                an_expired_job_of_a_key_is_never_handed_out
                jobs_with_keys_are_counted_purged_and_dropped_like_others
                a_refused_commit_gives_its_places_back
                the_keys_of_a_job_are_shown
                keys_and_limits_out_of_bounds_are_refused_by_name
                many_busy_keys_hide_nothing
            }
            rates {
                a_queue_hands_out_no_more_than_its_rate
                no_span_sees_more_than_the_rate_wherever_it_begins
                a_waiter_is_woken_when_the_rate_allows_more
                a_job_that_was_given_back_has_counted
                another_queue_of_the_claim_goes_on
                a_new_rate_counts_what_was_handed_out_under_the_old
                a_refused_commit_uses_no_rate
                a_step_of_the_wall_clock_changes_no_rate
            }
            turns {
                a_small_tenant_is_not_starved_by_a_large_one
                tenants_take_turns
                shares_are_by_weight
                within_a_tenant_the_order_is_that_of_the_queue
                jobs_without_a_key_take_turns_as_one
                a_tenant_that_paused_does_not_catch_up
                a_tenant_with_one_job_at_a_time_gets_its_share_and_no_more
                fairness_may_come_and_go_with_a_backlog
                a_tenant_whose_keys_are_busy_does_not_hold_others_up
                fairness_places_rates_and_time_hold_together
                a_refused_commit_takes_no_turn
                a_low_priority_is_not_starved_where_jobs_age
                without_ageing_a_priority_is_absolute
                the_limits_of_a_queue_are_shown
            }
            access {
                access_tokens_are_kept_and_listed_by_name
                the_name_of_an_access_token_is_taken_once
                a_revoked_access_token_is_gone
                the_audit_trail_is_read_newest_first
                an_audit_line_stands_or_falls_with_its_commit
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
            }
            limits_restart {
                places_are_taken_over_a_restart
                a_rate_counts_over_a_restart
                turns_go_on_after_a_restart
                keys_survive_a_restart
            }
        }
    };
}
