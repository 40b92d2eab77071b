//! The simulator's seeds, by profile.

use shef_integration_tests::sim::{Profile, SeededBug, check_seeds, find, run_hosts};

macro_rules! profiles {
    ($($name:ident: $seeds:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            check_seeds(&Profile::$name(), 0..$seeds);
        }
    )*};
}

// Together 4,700 seeds; each test is short of the time limit by far, also where others share the machine.
profiles! {
    calm: 200,
    rollouts: 400,
    placement: 400,
    messages: 300,
    crashes: 300,
    ledgers: 150,
    emptied_ledgers: 100,
    hosts: 300,
    impostors: 150,
    identities: 200,
    upgrades: 150,
    sockets: 200,
    engines: 250,
    hands: 150,
    store: 300,
    store_loss: 200,
    emptied: 200,
    two_masters: 200,
    two_stores: 200,
    everything: 350,
}

/// Agents that start within three seconds, some of them cut off and killed: a thousand cost no more steps a
/// host and a second of virtual time than a hundred, and all is well within 30 s of it after the last fault.
#[test]
fn a_thousand_agents_at_once() {
    let [few, many] = [100, 1_000].map(|hosts| {
        let took = run_hosts(0, hosts, &Profile::hosts()).unwrap_or_else(|failure| panic!("{failure:?}"));
        println!("{hosts} hosts: {took:?}");
        assert!(took.converged_ms <= 30_000, "{hosts} hosts: {took:?}");
        took.steps * 1_000_000 / (took.virtual_ms * hosts as u64)
    });
    assert!(many <= few, "steps a host in a thousand seconds: {few} with 100 hosts, {many} with 1,000");
}

/// How many seeds it may take to find a seeded bug.
const SEEDS_TO_FIND: u64 = 200;

macro_rules! seeded_bugs {
    ($($name:ident: $bug:ident by $profile:ident as $rule:literal),* $(,)?) => {
        mod seeded_bug {
            use super::*;
            $(
                #[test]
                fn $name() {
                    // Other rules may find it earlier.
                    let found = find(SeededBug::$bug, &Profile::$profile(), $rule, 0..SEEDS_TO_FIND);
                    println!("{found:?}");
                    assert!(found.is_some(), "{SEEDS_TO_FIND} seeds do not find it by {:?}", $rule);
                }
            )*
        }
    };
}

seeded_bugs! {
    removes_the_first: RemovesTheFirst by calm as "which is not ours",
    deletes_on_absence: DeletesOnAbsence by crashes as "no durable record ever wanted it gone",
    skips_import: SkipsImport by emptied as "no durable record ever wanted it gone",
    migrates_again: MigratesAgain by hosts as "is placed beside",
    retries_at_once: RetriesAtOnce by engines as "is the back-off",
    orders_before_commit: OrdersBeforeCommit by store as "which is not durable",
    writes_unchecked: WritesUnchecked by two_masters as "the store took a write of epoch",
    one_lost_report: OneLostReport by messages as "ms after it was heard of",
    suspect_is_down: SuspectIsDown by crashes as "ms after it was heard of",
    ignores_brake: IgnoresBrake by hosts as "hosts are cut off together",
    asks_nobody: AsksNobody by hosts as "hosts are cut off together",
    no_socket_is_silence: NoSocketIsSilence by sockets as "though its agent runs and somebody reaches it",
    deleted_while_held: DeletedWhileHeld by calm as "still holds its container",
    acknowledges_early: AcknowledgesEarly by store as "was acknowledged",
    accepts_stale_fence: AcceptsStaleFence by crashes as "follows epoch",
    wrong_base: WrongBase by messages as "to something else than its base",
    removes_by_absence: RemovesByAbsence by hosts as "nobody has named it",
    forgets_ledger: ForgetsLedger by crashes as "says it has accepted None",
    appends_no_removal: AppendsNoRemoval by calm as "its disk says something else than it acts on",
    appends_behind_torn: AppendsBehindTorn by crashes as "cannot be read: the record at byte",
    head_tells_revision: HeadTellsRevision by ledgers as "replicas and knows of",
    digest_keeps_removed: DigestKeepsRemoved by calm as "is not the digest of what it holds",
    takes_over_unseen: TakesOverUnseen by ledgers as "as if its ledger held something else",
    removes_original_first: RemovesOriginalFirst by calm as "nothing that took its slot has run",
    drain_stops_first: DrainStopsFirst by crashes as "nothing that took its slot has run",
    imports_forgotten: ImportsForgotten by hosts as "forgotten",
    knows_by_name: KnowsByName by engines as "renamed-",
    leaves_networks: LeavesNetworks by calm as "is left on",
    misses_master: MissesMaster by hosts as "without a master, but",
    overlooks_signals: OverlooksSignals by hands as "but nothing fails by itself",
    crashes_are_good: CrashesAreGood by rollouts as "takes no notice of it",
    trial_is_the_end: TrialIsTheEnd by rollouts as "takes no notice of it",
    forgets_replaced: ForgetsReplaced by rollouts as "never come to rest",
    port_twice: PortTwice by placement as "its port taken",
    over_reserves: OverReserves by placement as "of 1000 bytes reserved",
    sticky_moves: StickyMoves by placement as "but its volume is on",
    surges_too_much: SurgesTooMuch by calm as "and an update may make that",
    stops_too_many: StopsTooMany by calm as "may be without one",
    canary_goes_on: CanaryGoesOn by calm as "are its canaries",
    leads_before_recovered: LeadsBeforeRecovered by crashes as "is pushed to before service",
    fights_back: FightsBack by two_masters as "and takes the leadership from",
    leads_with_memory: LeadsWithMemory by two_masters as "and takes the leadership from",
    overlooks_versions: OverlooksVersions by crashes as "whose agent is older than what it needs",
    ignores_policy: IgnoresPolicy by crashes as "and its policy refuses it",
    leaves_pages: LeavesPages by crashes as "is stored as nobody has committed it",
    reuses_numbers: ReusesNumbers by crashes as "is the number of a second replica",
    believes_address: BelievesAddress by impostors as "is to run is sent to",
    revoked_counts: RevokedCounts by identities as "was forgotten, and is heard",
    token_twice: TokenTwice by identities as "a token for one host has let in",
    believes_others: BelievesOthers by identities as "is heard as",
    leads_just_above: LeadsJustAbove by two_stores as "follows the master of the lost host",
    keeps_leader_secret: KeepsLeaderSecret by two_stores as "not converged",
    counts_what_stopped: CountsWhatStopped by hosts as "is shown as running, but",
    two_names: TwoNames by engines as "is stored as a second host",
}

/// Seeds of bugs that the simulator has found, each fixed since. With its fix
/// taken back, each of them failed when it was written down.
mod found {
    use super::*;

    fn holds(profile: &Profile, seed: u64) {
        check_seeds(profile, seed..seed + 1);
    }

    macro_rules! found {
        ($($(#[$doc:meta])* $name:ident: $profile:ident $seed:literal),* $(,)?) => {$(
            $(#[$doc])*
            #[test]
            fn $name() {
                holds(&Profile::$profile(), $seed);
            }
        )*};
    }

    found! {
        /// An update that stops first took a slot that had just been given up for the one that it had
        /// emptied.
        a_slot_that_was_given_up_is_not_one_that_was_emptied: rollouts 30,
        /// A replica that had only just been placed counted as one that serves.
        what_was_only_just_placed_does_not_serve: rollouts 373,
        /// A slot that had lost its turn was no canary any more, though its new replica was only out of
        /// reach.
        a_new_replica_out_of_reach_is_a_canary_still: everything 64,
        /// While the slot of a drained host was still to go, an emptied one of a global service was no
        /// canary.
        an_emptied_slot_of_a_global_service_stays_a_canary: placement 298,
        /// An update that stops first stopped what had its volume on a host that was drained.
        nothing_is_stopped_that_cannot_come_back: placement 325,
        /// A host that was down and back for a while when it was cordoned seemed to be called down by that.
        what_an_operator_says_of_a_host_that_is_down_does_not_call_it_so: placement 107,
        /// A full report from before the engine's first list confirmed removals of what was still held.
        an_engine_that_is_away_confirms_nothing: engines 23,
        /// A host was known before what it brought was durable, and told to run nothing when it registered
        /// again.
        a_host_is_known_when_its_replicas_are_durable: emptied 5,
        /// Orders for a host without a runner were dropped.
        orders_wait_for_an_unknown_host: store_loss 143,
        /// A store that forgot the leadership with its tail deposed its only master.
        a_forgotten_leadership_is_stored_again: store_loss 0,
        /// Every list put the repair of a stopped container off.
        a_list_does_not_put_off_a_repair: engines 30,
        /// A container whose start went unheard stayed unhealthy.
        an_unheard_start_settles: engines 93,
        /// Of two leaderships taken at once the lower one counted.
        the_higher_leadership_counts: emptied 161,
        /// When a master had sockets again, it asked none of those that it had not looked at yet for help.
        who_was_not_looked_at_yet_may_help: sockets 25,
        /// A service that had lost its store twice gave a replica the number of one that a host still held.
        a_number_ahead_of_the_count_has_more_behind_it: emptied 7075,
        /// An agent was upgraded, and what had waited for such a one went on waiting.
        an_upgraded_agent_gets_what_waited_for_it: everything 7392,
        /// A slot that had been given up counted as a canary when there was room for it again.
        what_was_given_up_is_no_canary: everything 7762,
        /// A store that lost its tail was told again who leads, but not which cluster's it had become.
        a_lost_tail_takes_no_cluster_with_it: store_loss 8331,
        /// An update that had waited for its promotion was rolled back by the request that changed it.
        what_waited_for_its_user_is_not_stalled: rollouts 324,
        /// A master that starts again led below the epoch that had deposed it: hosts never followed it.
        who_starts_again_leads_above_who_deposed_it: emptied 7565,
    }
}
