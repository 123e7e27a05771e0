//! Claims that arrive late, twice, or without an answer.

use super::making::Overtaken;
use super::retention::{age, create};
use super::retention_readers::AGE;
use super::*;
use crate::storage::faulty::{Fault, Hold};
use crate::storage::operation::Operation;

const CLAIMS: [Operation; 2] = [Operation::RaiseSequenceNumber, Operation::SetSequenceNumber];

/// The first server, of which the requests that claim segment 1 of its stream end like this, the first time or always.
async fn claiming(always: bool, fault: &Fault) -> (Server, Arc<Stream>) {
    let server = Server::first(1).await;
    let stream = create(&server, age(AGE)).await;
    for operation in CLAIMS {
        let rule = server.faulty.on(operation).blob(&server.segment(&stream, 1).name);
        (if always { rule.always() } else { rule }).then(fault.clone());
    }
    (server, stream)
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_before_a_claim_claims_nothing_that_was_made_since() {
    let claim = Hold::new();
    let (old, stream) = claiming(true, &Fault::Hold(claim.clone())).await;
    append(&stream, "m0", 10).await.unwrap();
    claim.arrived(1).await;
    let mut overtaken = Overtaken::from(old).await;
    overtaken.make_anew().await;
    claim.release().await;
    overtaken.old.reign_end().await;
    overtaken.goes_on().await;
}

/// The leader has had no answer to its claim and has sent it again. When the first copy lands, the segment is another one.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_late_and_again_claims_nothing_and_what_its_leader_had_to_write_does_not_land() {
    // A leader that has made the segment claims it in one way, one that finds it in another.
    for finds in [false, true] {
        let (claim, write) = (Hold::new(), Hold::new());
        let fault = Fault::LostAndHeld(claim.clone());
        let (old, stream) = if finds {
            let server = Server::first(1).await;
            let stream = create(&server, age(AGE)).await;
            (server, stream)
        } else {
            claiming(false, &fault).await
        };
        let segment = old.segment(&stream, 1);
        append(&stream, "m0", 10).await.unwrap();
        old.env.clock.sleep(AGE / 5).await;
        assert_eq!(super::retention::stored(&old, &stream).await, [0, 1]);
        if finds {
            old.stop(Command::Finish).await;
            old.faulty.on(Operation::RaiseSequenceNumber).blob(&segment.name).then(fault);
            old.lead().await;
            old.stream("orders").reader(Freshness::Recent).await.unwrap();
        }
        claim.arrived(1).await;
        old.faulty.on(Operation::PutPages).blob(&segment.name).always().then(Fault::Hold(write.clone()));
        let late = old.stream("orders");
        let late = tokio::spawn(async move { late.append(append_of("late", 10), AGE * 10).await });
        write.arrived(1).await;
        let overtaken = Overtaken::from(old).await;
        let segment = overtaken.make_anew().await;
        claim.release().await;
        let found = overtaken.new.memory.properties(&segment).await.unwrap();
        assert_eq!(found.sequence_number, Term::UNUSED, "finds: {finds}");
        write.release().await;
        assert_eq!(late.await.unwrap(), Err(AppendError::Unknown(Unusable::NoLeader)), "finds: {finds}");
        overtaken.goes_on().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_found_to_have_landed() {
    let (leader, stream) = claiming(false, &Fault::AppliedButLost).await;
    append(&stream, "a", 10).await.unwrap();
    leader.env.clock.sleep(AGE / 5).await;
    append(&stream, "b", 10).await.unwrap();
    assert_eq!(super::retention::stored(&leader, &stream).await, [0, 1]);
    let term = leader.vault.term().unwrap();
    let claimed = leader.memory.properties(&leader.segment(&stream, 1)).await.unwrap();
    assert_eq!((claimed.sequence_number, leader.vault.term()), (term, Some(term)));
}

#[tokio::test(start_paused = true)]
async fn an_unused_segment_that_is_found_in_another_state_is_looked_at_again() {
    let leader = Server::first(1).await;
    let stream = leader.create("orders", 2).await;
    let blob = leader.segment(&stream, 0);
    let claim = Hold::new();
    leader.faulty.on(Operation::SetSequenceNumber).blob(&blob.name).then(Fault::Hold(claim.clone()));
    let appended = Arc::clone(&stream);
    let appended = tokio::spawn(async move { append(&appended, "a", 10).await });
    claim.arrived(1).await;
    // A claim of an earlier leader changes its state, and no more.
    let raised = leader.memory.raise_sequence_number(&blob, Term(1)).await;
    assert_eq!(raised, Ok(Term::UNUSED));
    claim.release().await;
    assert_eq!(appended.await.unwrap().unwrap().first_offset, Offset(0));
    assert_eq!(labels(&stream).await, [(0, "a".to_owned())]);
}

/// The old leader writes as fast as it can, and its successor's claim does not wait for a pause.
#[tokio::test(start_paused = true)]
async fn a_leader_that_writes_without_a_pause_does_not_hold_up_its_successors_claim() {
    let old = Server::first(1).await;
    let stream = old.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let new = old.beside(99);
    for server in [&old, &new] {
        for operation in [Operation::RaiseSequenceNumber, Operation::SetSequenceNumber, Operation::Properties]
        {
            server.faulty.on(operation).always().then(Fault::Delay(Duration::from_millis(10)));
        }
        server.faulty.on(Operation::PutPages).always().then(Fault::Delay(Duration::from_millis(1)));
    }
    let writing: Vec<_> = (0..8)
        .map(|_| {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { while append(&stream, "more", 10).await.is_ok() {} })
        })
        .collect();
    old.env.clock.sleep(Duration::from_millis(100)).await;
    let began = old.env.clock.monotonic();
    new.lead().await;
    append(&new.stream("orders"), "b", 10).await.unwrap();
    assert!(old.env.clock.monotonic() - began < Duration::from_secs(1));
    for written in writing {
        written.await.unwrap();
    }
}

/// No leader has set it, so that no term is above it: the other streams go on.
#[tokio::test(start_paused = true)]
async fn a_segment_whose_number_is_above_every_term_is_the_fault_of_its_stream_alone() {
    let leader = Server::first(1).await;
    let (spoilt, other) = (leader.create("orders", 2).await, leader.create("others", 2).await);
    for stream in [&spoilt, &other] {
        append(stream, "a", 10).await.unwrap();
    }
    let segment = leader.segment(&spoilt, 0);
    let above = Term(Term::UNUSED.0 + 1);
    assert_eq!(leader.memory.raise_sequence_number(&segment, above).await, Ok(above));
    let next = leader.successor().await;
    let refused = append(&next.stream("orders"), "b", 10).await.unwrap_err();
    assert!(refused.to_string().contains("above every term"), "{refused}");
    assert_eq!(next.stream("orders").status().condition, Condition::Corrupt);
    append(&next.stream("others"), "b", 10).await.unwrap();
}
