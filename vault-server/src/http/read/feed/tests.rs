//! What is kept, and for whom.

use super::*;

fn ring(tip: u64) -> Ring {
    Ring { pieces: VecDeque::new(), taken: 0, tip: Offset(tip), over: None }
}

fn memory(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes))
}

/// A piece that takes exactly so much.
fn piece(bytes: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(bytes);
    piece.resize(bytes, b'x');
    assert_eq!(piece.capacity(), bytes);
    piece
}

fn spans(ring: &Ring) -> Vec<(u64, u64)> {
    ring.pieces.iter().map(|piece| (piece.start.0, piece.end.0)).collect()
}

#[test]
fn the_oldest_pieces_make_room_for_new_ones() {
    let (mut ring, memory) = (ring(10), memory(FEED_BYTES));
    let most = FEED_BYTES_PER_STREAM / 4;
    for n in 1..=6 {
        ring.push(Offset(10 + n), piece(most), &memory);
    }
    assert_eq!(spans(&ring), [(12, 13), (13, 14), (14, 15), (15, 16)]);
    ring.push(Offset(20), piece(FEED_BYTES_PER_STREAM + 1), &memory);
    assert_eq!(spans(&ring), [(16, 20)], "a piece that is too large stands alone");
    ring.push(Offset(20), Vec::new(), &memory);
    assert_eq!((spans(&ring), ring.tip), (vec![(16, 20)], Offset(20)));
}

#[test]
fn without_memory_nothing_is_kept_and_pieces_still_follow_each_other() {
    let (mut ring, memory) = (ring(0), memory(1_000));
    ring.push(Offset(1), piece(400), &memory);
    ring.push(Offset(2), piece(400), &memory);
    // Somebody has the first one coming and does not take it.
    let held = ring.pieces[0].bytes.clone();
    ring.push(Offset(3), piece(400), &memory);
    assert_eq!(spans(&ring), [(2, 3)], "both made room, and only one gave any");
    ring.push(Offset(4), piece(700), &memory);
    assert_eq!((spans(&ring), ring.tip, ring.taken), (vec![], Offset(4), 0));
    drop(held);
    ring.push(Offset(5), piece(700), &memory);
    assert_eq!((spans(&ring), memory.available_permits()), (vec![(4, 5)], 300));
    drop(ring);
    assert_eq!(memory.available_permits(), 1_000);
}
