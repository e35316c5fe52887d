//! Hostile clients, faulty dependencies and careless operators, and their allowed cost.
//!
//! `cargo test` runs the short form; `make attack` the long one, with `DOTMAC_ATTACK_SCALE` times as much of everything.
//! Memory and descriptors are those of the daemon's process as the kernel counts them.
//!
//! Findings of an attack of an hour, each with the tests that fail if it is possible again:
//!
//! | item | what | tests |
//! |---|---|---|
//! | 1 | bodies that unpack to gigabytes | `bodies::a_compressed_body_is_refused_before_it_is_unpacked` |
//! | 2 | memory of compressed answers under way | `compression::compressed_answers_under_way_cost_no_more_than_plain_ones`, `compression::clients_that_do_not_read_hold_no_copy_of_a_large_answer` |
//! | 3 | redirects that lead credentials to other hosts | `vault::neither_token_nor_secret_id_follow_a_redirect_to_another_host`, `vault::a_redirect_is_followed_once_to_the_same_host_and_path_and_by_307_or_308_alone`, `egress::the_collectors_headers_use_no_proxy_and_follow_no_redirect`, `egress::what_another_server_says_is_no_answer_to_a_probe` |
//! | 4 | a SQLite file that changes under the daemon | `database::a_backup_restored_under_a_running_daemon_is_served_and_nothing_is_lost_silently` |
//! | 5 | files that do not answer | `files::a_start_with_a_pipe_in_place_of_a_file_is_refused_by_name`, `files::files_that_become_pipes_are_refused_and_hold_nothing_up` |
//! | 6 | a stop behind reloads | `stopping::a_stop_does_not_wait_for_reloads_that_wait_for_vault` |
//! | 7 | connections that take all descriptors | `connections::the_soft_limit_on_open_files_is_raised_to_the_hard_one`, `connections::idle_clients_leave_descriptors_for_the_database_and_connections_for_probes`, `connections::a_database_that_cannot_be_opened_for_lack_of_descriptors_reports_it`, `connections::kept_connections_make_room_for_new_ones`, `connections::a_pool_that_a_reload_enlarges_gets_its_files_from_connections` |
//! | 8 | silent TLS handshakes | `handshakes::a_silent_handshake_ends_after_its_limit`, `handshakes::silent_handshakes_keep_no_client_out`, `handshakes::an_address_gets_so_many_handshakes_and_others_get_theirs` |
//! | 9 | answers that wait for an acknowledgement | `platform/src/http/bind.rs::accepted_connections_send_at_once_and_are_not_kept_by_the_kernel` |
//! | 10 | empty answers that count as Vault | `vault::what_answers_without_saying_anything_is_not_vault`, `vault::a_gateway_that_refuses_is_not_taken_for_a_sealed_vault` |
//! | 11 | answers of Vault without a limit | `vault::an_answer_of_any_size_costs_little` |
//! | 12 | reloads while Vault hangs | `vault::hangups_while_vault_hangs_are_no_fault_of_secrets` |
//! | 13 | the character NUL in a text | `database::a_nul_in_a_text_is_the_clients_fault_on_both_back_ends` |
//! | 14 | floods of resets | `connections::a_flood_of_resets_leaves_nothing_behind`, `connections::a_request_whose_client_hangs_up_does_not_stay_in_flight` |
//! | 15 | clients that never read | `connections::clients_that_never_read_are_disconnected`, `connections::clients_that_never_read_do_not_delay_the_stop` |
//! | 16 | proxies of the environment | `vault::no_proxy_of_the_environment_gets_the_token`, `egress::the_collectors_headers_use_no_proxy_and_follow_no_redirect` |
//! | 17 | a list that holds nothing | `settings::a_hostile_setting_is_refused_by_name_and_printed_without_password_or_control_characters` |
//! | 18 | an origin that matches nothing | `settings::a_hostile_setting_is_refused_by_name_and_printed_without_password_or_control_characters` |
//! | 19 | a component's name as a path | `operators::the_name_of_a_component_is_never_taken_as_a_path` |
//! | 20 | passwords and control characters in messages | `settings::a_hostile_setting_is_refused_by_name_and_printed_without_password_or_control_characters`, `operators::arguments_are_quoted_in_their_line_and_without_a_password` |
//! | 21 | odd heads, and bodies asked for in vain | `requests::odd_heads_are_refused_with_what_is_wrong`, `requests::a_body_that_is_refused_is_not_asked_for`, `requests::a_body_that_is_too_large_is_not_asked_for` |
//! | 22 | a slow database | `database::a_slow_database_is_degraded_and_serves` |
//! | 23 | requests at a black-holed database | `database::requests_at_a_black_holed_database_end_soon_and_say_what_may_have_been_done` |
//! | 24 | a lock on the table of migrations; Vault's `Retry-After` | `database::a_lock_on_the_table_of_migrations_is_named_with_its_holder`, `vault::a_pause_that_vault_asks_for_is_kept`, `vault::a_real_quota_says_when_and_is_kept` |
//! | 25 | a signal before anything runs | `stopping::a_signal_while_the_settings_are_read_stops_it_in_good_order` |
//! | 26 | the measured size of problems | `requests::the_size_of_an_error_is_measured_as_it_is_sent` |
//! | 27 | a token that is not used | `settings::a_token_that_is_not_used_stops_no_start` |
//! | 28 | a dead PostgreSQL that is blamed on Vault | `outages::a_dead_postgresql_is_not_blamed_on_vault_before_the_lease_ends_nor_after`, `outages::a_postgresql_that_hangs_behind_vault_is_not_a_vault_that_hangs`, `outages::a_start_in_production_waits_for_a_dead_postgresql_as_long_as_it_takes` |
//! | 29 | a sealed Vault behind an ended lease | `outages::the_end_of_a_lease_does_not_hide_that_vault_is_sealed_and_no_stale_word_stays` |
//! | 30 | states of what is away or restarted on request | `operators::why_prints_the_last_error_and_the_remedy_of_what_is_away`, `operators::a_restart_that_was_asked_for_logs_no_error` |
//! | 31 | instances that are gone, and a way in to others | `deployments::an_instance_that_is_gone_or_in_a_crash_loop_raises_an_alert`, `deployments::every_deployment_has_an_admin_socket_and_a_place_for_it`, `deployments::the_pods_have_the_token_that_the_kubernetes_login_reads` |
//! | 32 | answers to operators; probes behind a blocked worker | `operators::why_prints_the_last_error_and_the_remedy_of_what_is_away`, `operators::the_journal_can_be_read_while_the_daemon_runs_and_after_its_end`, `operators::without_a_daemon_or_a_socket_the_commands_say_so`, `operators::a_probe_behind_a_blocked_worker_is_answered_late_and_not_refused` |
//!
//! The socket option of item 9 cannot be seen from outside: its test is next to the code. Each fault of the SQLite file
//! (4) is tried in `tests/db/lost_files.rs`; what each limit does to one connection in `platform/src/http/tests`.

mod bodies;
mod compression;
mod connections;
mod database;
mod deployments;
mod egress;
mod files;
mod handshakes;
mod operators;
mod outages;
mod requests;
mod settings;
mod stopping;
mod vault;

use std::fs;

use crate::support::{Daemon, eventually, repository};

/// How many times as much as in the short form, at least 1: `DOTMAC_ATTACK_SCALE`.
pub fn scale() -> usize {
    std::env::var("DOTMAC_ATTACK_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

/// Resident memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> u64 {
    status(pid, "VmRSS:") / 1024
}

/// The most resident memory that a process has ever had, in MiB.
pub fn peak_mib(pid: u32) -> u64 {
    status(pid, "VmHWM:") / 1024
}

/// The threads of a process.
pub fn threads(pid: u32) -> u64 {
    status(pid, "Threads:")
}

/// A number out of the kernel's status of a process; memory is in KiB.
fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|it| it.strip_prefix(field));
    let number = value.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// Open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until so many connections of the daemon were ended by a limit.
pub async fn until_cut(daemon: &Daemon, limit: &str, count: usize) {
    let series = format!("dotmac_http_connections_cut_total{{limit=\"{limit}\"}}");
    eventually(&format!("{count} of {series}"), || async {
        let cut = daemon.metric(&series).await.unwrap();
        (cut >= count as f64).then_some(())
    })
    .await;
}

/// The table above has every item, and the tests that it names are there.
#[test]
fn each_item_has_its_tests() {
    let directory = repository().join("tests/daemon/attack");
    let table = include_str!("mod.rs").lines();
    let mut items = Vec::new();
    for row in table.filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [item, _, tests] = cells[..] else {
            panic!("{row}");
        };
        let Ok(item) = item.parse::<u8>() else {
            continue; // the heading
        };
        items.push(item);
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let (place, name) = test.split_once("::").unwrap();
            let file = match place.ends_with(".rs") {
                true => repository().join(place),
                false => directory.join(format!("{place}.rs")),
            };
            let source = fs::read_to_string(file).unwrap();
            let (before, _) = source
                .split_once(&format!("fn {name}() "))
                .unwrap_or_else(|| panic!("item {item}: there is no {test}"));
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(attributes.contains("test]\n"), "{test} is no test");
        }
    }
    assert_eq!(items, (1..=32).collect::<Vec<u8>>());
}
